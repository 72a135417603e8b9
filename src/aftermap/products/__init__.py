"""What a user takes away: rasters, vectors, tables, an offline map."""
