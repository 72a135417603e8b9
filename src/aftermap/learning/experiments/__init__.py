"""The record of runs: the experiment database, and messages about a run."""
