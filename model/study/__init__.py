"""Comparative studies: methods with the same splits, completion and tuning budget, over several seeds."""
