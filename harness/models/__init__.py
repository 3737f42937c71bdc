"""All that knows torch: embed, search, train."""
