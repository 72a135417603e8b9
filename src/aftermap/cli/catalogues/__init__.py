"""What lies elsewhere: images of catalogues, footprints of public maps."""
