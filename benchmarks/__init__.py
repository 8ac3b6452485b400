"""Scripts that measure; `benchmarks/kit/` imports their measuring functions."""
