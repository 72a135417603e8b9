"""A finished map held against what others found on the same ground."""
