"""The camera of a Raspberry Pi, read through the system's camera program."""
