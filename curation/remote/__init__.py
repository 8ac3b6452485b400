"""Files behind URLs: rate-limited requests, resumable downloads, a bounded cache, and the model hub."""
