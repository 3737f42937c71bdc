"""Unit tests of harness.sources."""
