"""The demo stream: a test picture with a clock, and a tone."""

DEMO_PATH = "demo"
"""The path that ``polycast --demo`` publishes on."""
