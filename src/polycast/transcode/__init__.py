"""Decoding and encoding with FFmpeg (PyAV), for the servers and for the Python library. Needs the extra `media`."""
