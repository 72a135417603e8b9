"""Objectives: one way of learning each; they own the forward passes."""
