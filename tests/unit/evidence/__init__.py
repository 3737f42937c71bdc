"""Unit tests of harness.evidence."""
