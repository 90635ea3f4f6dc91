"""Models on feature vectors: NMCL and its baselines, training, evaluation and checkpoints."""
