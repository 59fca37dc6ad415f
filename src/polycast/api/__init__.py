"""The public Python API. Programs import its names from ``polycast``; the modules here are private."""
