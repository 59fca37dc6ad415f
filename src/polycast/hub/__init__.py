"""Paths, streams, publishers and readers. Does not know any protocol by name."""
