"""What is compared: the files of methods and of benchmarks, read as clips."""
