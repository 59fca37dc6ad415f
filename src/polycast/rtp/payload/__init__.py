"""RTP payload formats: one file per format, and the registry that finds them by codec."""
