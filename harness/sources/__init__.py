"""Where files come from, each held against the lock."""
