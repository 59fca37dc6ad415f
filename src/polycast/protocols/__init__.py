"""Glue: one folder per protocol, each an engine of ``wire/`` plus sockets of ``net/`` plus the hub."""
