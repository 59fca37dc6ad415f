"""The dialects: what the users of other servers write, as translations of the canonical settings."""
