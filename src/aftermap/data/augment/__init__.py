"""Augmentation: operations as data, drawn per sample, composed into one map and applied to whole batches."""
