"""Unit tests of harness.models."""
