"""Version 3 of the HTTP API: that of MediaMTX v1.20, with its names, forms and texts."""
