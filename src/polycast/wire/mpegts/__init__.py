"""MPEG transport streams (ISO/IEC 13818-1): muxer and demuxer, without I/O."""
