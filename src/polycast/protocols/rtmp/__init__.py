"""RTMP and RTMPS: clients publish and read."""
