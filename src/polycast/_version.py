"""The version of the package, read by the build and printed by ``polycast --version``."""

__version__ = "0.1.0"
