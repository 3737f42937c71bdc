"""Core knows nothing of retrieval: strict parsing, files and words."""
