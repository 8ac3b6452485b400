"""Networks small enough to train on a CPU."""
