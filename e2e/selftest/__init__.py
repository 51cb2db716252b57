"""Proves the harness itself, in seconds, with no cluster."""
