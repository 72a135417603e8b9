"""Reports of finished maps."""
