"""Maps: images and a model in, a finished folder out."""
