"""Measures on arrays in HU."""
