"""Published checkpoints as models of ours, and the models that one can name."""
