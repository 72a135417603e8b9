"""Self-training: a teacher labels a pool of scenes, and students learn from them."""
