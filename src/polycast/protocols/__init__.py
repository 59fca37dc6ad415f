"""The protocols: one folder each, which connects an engine of ``wire/`` with sockets of ``net/`` and the hub."""
