"""Measurements: what a cold load takes, beside the tools people would use instead. `make bench`."""
