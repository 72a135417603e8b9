"""Image files: what one may be, its header checked, and exact reads of its pixels."""
