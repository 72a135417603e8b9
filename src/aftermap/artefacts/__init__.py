"""Model folders: safetensors weights and a card that says what they are."""
