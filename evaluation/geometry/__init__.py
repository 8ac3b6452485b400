"""ActionBench's geometry metrics: sample points on surfaces and compute distances between them."""
