"""Rules of security that several layers need, each in one place. Nothing here does input or output."""
