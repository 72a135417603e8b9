"""Footprints of buildings for an area, from public maps: where each comes from, of which day, and under which licence."""
