"""Slates for paths that are always available: generated ones, and files that are played again and again."""
