"""The registry of benchmarks, and the benchmarks that need the whole pipeline."""
