"""Plans: training runs and what comes between them, as one file."""
