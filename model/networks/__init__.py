"""The flow transformers, and the sparse tensors that all networks share."""
