"""Benchmark measurements and results, and the benchmarks that need neither extractors nor models."""
