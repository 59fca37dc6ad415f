"""Monitoring and control of a running server: API, metrics, profiles, configuration changes. Protocol-agnostic."""
