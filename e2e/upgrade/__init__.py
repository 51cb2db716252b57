"""Regression-check an upgrade: prepare, watch, verify, compare."""
