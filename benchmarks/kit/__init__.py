"""The GPU checks and benchmarks, as a list of short checks: `benchmarks/gpu_kit.md`."""
