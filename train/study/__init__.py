"""The paper's ablations: training runs, and their evaluation on held-out clips."""
