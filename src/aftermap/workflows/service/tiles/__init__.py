"""What a live map shows: both dates and the damage as COGs on the web's grid, buildings as vector tiles."""
