"""What training minimises (losses, objectives) and how (the loop)."""
