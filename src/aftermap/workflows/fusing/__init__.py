"""Several maps and layers of one event as one map, with where they differ."""
