"""ActionBench's geometry metrics: surfaces become points, points become distances."""
