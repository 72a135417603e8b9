"""Readers: the layouts in which datasets are published, found and read."""
