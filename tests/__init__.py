"""Tests of the harness: unit, integration and fault."""
