"""Benches by name, and those that need the whole pipeline."""
