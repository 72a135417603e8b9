"""A trained model adapted to an event, with labels or without."""
