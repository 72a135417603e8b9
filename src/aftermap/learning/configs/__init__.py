"""What can be said about learning, as data: recipes are read and checked without torch."""
