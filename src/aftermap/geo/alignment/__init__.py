"""How far the second date lies beside the first: one translation, or a grid of shifts."""
