"""Searches over a recipe's keys."""
