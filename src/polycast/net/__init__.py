"""Sockets and the event loop. Knows no protocol and imports nothing else of Polycast."""
