"""Towns from nothing: streets, blocks, gardens, buildings, trees."""
