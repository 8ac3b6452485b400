"""Read the files of methods and benchmarks."""
