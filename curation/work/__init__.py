"""Jobs become outcomes: Ray workers, sandboxes, and the stages of one asset."""
