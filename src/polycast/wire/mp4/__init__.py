"""Fragmented MP4 (ISO/IEC 14496-12): init segments and fragments, written and read, without I/O."""
