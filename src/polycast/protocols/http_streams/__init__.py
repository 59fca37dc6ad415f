"""Streams over plain HTTP, as one long response: FLV, MPEG-TS, and pictures as JPEG."""
