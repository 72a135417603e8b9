"""From scenes on disk to batches of crops, the same wherever and whenever they are asked for."""
