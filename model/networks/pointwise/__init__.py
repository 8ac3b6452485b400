"""The parts of a block between its matrix products: normalizations, rotary embedding, modulation, residuals."""
