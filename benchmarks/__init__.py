"""Benchmark scripts; `benchmarks/kit/` reuses their measuring functions."""
