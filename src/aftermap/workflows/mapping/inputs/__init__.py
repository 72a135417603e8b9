"""What a map starts from: one date or two, an area of interest, known buildings, arrays in memory."""
