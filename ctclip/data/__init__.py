"""Volumes and data lists."""
