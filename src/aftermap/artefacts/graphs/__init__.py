"""Models as graphs: written, quantised, read and looked into."""
