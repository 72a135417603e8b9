"""A finished map handed on: in the formats that other people open."""
