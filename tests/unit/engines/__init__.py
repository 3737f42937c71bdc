"""Unit tests of harness.engines."""
