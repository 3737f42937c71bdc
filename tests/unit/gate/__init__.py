"""Unit tests of harness.gate."""
