"""Weights of networks: published names, pretrained encoders, transfer from one model to another."""
