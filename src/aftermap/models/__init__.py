"""Dense prediction models: encoders, decoders, siamese networks."""
