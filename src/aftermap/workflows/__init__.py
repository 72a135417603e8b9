"""Compositions of the other rooms: train, predict, evaluate, map."""
