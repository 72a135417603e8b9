"""Checks of prepared datasets, and the splits that keep their parts from leaking."""
