"""Measures the harness itself, alone and beside what others do; shows figures, asserts nothing."""
