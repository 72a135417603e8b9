"""From rows of probabilities to buildings: traced, parted, painted, judged by their pixels."""
