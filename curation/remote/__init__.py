"""Files that lie elsewhere: polite requests, resumed downloads, a bounded cache, and the protocol of the model hub."""
