"""Readers of every kind while everything around them goes wrong, by a seeded script."""
