"""Many scenes as one map: `aftermap map-many`."""
