"""What a step of class-incremental learning sees: protocols, tables of tasks, filters, replay."""
