"""Scores from counts: by pixel, by building, by class, over steps. Numpy only."""
