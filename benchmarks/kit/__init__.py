"""Everything that a GPU must show, as a list of short checks: `benchmarks/gpu_kit.md`."""
