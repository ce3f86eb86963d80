"""Measuring a node."""
