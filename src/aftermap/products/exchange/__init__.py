"""The table of buildings in the formats that other people open; see docs/formats.md for which is for whom."""
