"""RTP tools: headers, RTCP, reordering, statistics, time lines and payload formats. No I/O; time is an argument."""
