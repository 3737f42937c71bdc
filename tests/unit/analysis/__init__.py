"""Unit tests of harness.analysis."""
