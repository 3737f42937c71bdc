"""Unit tests of harness.core."""
