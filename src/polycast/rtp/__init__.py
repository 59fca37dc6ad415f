"""RTP: headers, RTCP, reordering, statistics, timelines and payload formats. No I/O; time is an argument."""
