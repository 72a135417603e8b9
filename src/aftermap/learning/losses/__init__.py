"""Losses: pure functions of logits and targets."""
