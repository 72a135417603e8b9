"""The event's own model: learnt in seconds from what a person said of some of a map's buildings."""
