"""A model or its predictions against the truth, and thresholds chosen on validation scenes."""
