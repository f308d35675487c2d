"""What the models that transformers lacks share: registration, checkpoints, conversion."""
