"""The vocabulary of Polycast: time, codecs, tracks, RTP packets and frames.

Nothing here does I/O or knows a protocol; every other layer imports it. Objects are immutable once they are shared.
"""
