"""RTSP and RTSPS: clients publish and read."""
