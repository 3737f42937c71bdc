"""Measures the harness against what a user would do instead, and writes results/speed.md from its own record."""
