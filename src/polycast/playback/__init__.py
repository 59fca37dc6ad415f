"""Serves recordings: lists what there is, and sends any period of it."""
