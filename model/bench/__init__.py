"""Benchmarks of the network: one step, and training."""
