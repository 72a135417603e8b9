"""How many buildings are damaged, with an interval: a probability sample, what was answered of it, and estimates."""
