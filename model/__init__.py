"""How vectors become a decision: NMCL and its rivals, training, evaluation, checkpoints."""
