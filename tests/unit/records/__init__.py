"""Unit tests of harness.records."""
