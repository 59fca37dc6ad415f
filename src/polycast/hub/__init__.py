"""The streams: paths, publishers, readers, and the two lanes that join them. Knows no protocol by name."""
