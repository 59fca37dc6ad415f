"""SRTP and its keys: packets (RFC 3711, RFC 7714), and MIKEY (RFC 3830)."""
