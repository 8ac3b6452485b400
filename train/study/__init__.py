"""The paper's ablations: runs, and figures of held-out clips."""
