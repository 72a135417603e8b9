"""Figures: results as pictures, one style for all of them."""
