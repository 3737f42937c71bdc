"""Unit tests of harness.pipeline."""
