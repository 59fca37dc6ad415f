"""Metrics for Prometheus, computed from the current state at each scrape."""
