"""Unit tests of harness.experiment."""
