"""Several maps of one place over time: the state of every building, and what changed between dates."""
