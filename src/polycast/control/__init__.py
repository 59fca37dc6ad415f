"""Watching and controlling a running server: API, metrics, profiles, new configurations. Knows no protocol."""
