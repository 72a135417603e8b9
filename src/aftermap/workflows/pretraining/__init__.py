"""An encoder that learns from images without labels."""
