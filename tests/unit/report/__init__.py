"""Unit tests of harness.report."""
