"""Load benchmarks for Polycast: run with ``python -m bench`` from the repository root."""
