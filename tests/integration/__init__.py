"""Whole parts together: a tiny model, real clients, the real command line."""
