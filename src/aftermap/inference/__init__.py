"""From images to probabilities to buildings, at any size."""
