"""A candidate against the accepted reference."""
