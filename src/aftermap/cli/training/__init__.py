"""Commands that learn: train, adapt, search, plans and the records of runs."""
