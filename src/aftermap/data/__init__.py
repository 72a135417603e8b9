"""Datasets: scenes and manifests, readers, masks, splits, checks, augmentation, synthetic disasters."""
