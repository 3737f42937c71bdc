"""Tests of what runs on a GPU; a CPU runs them too, where HARNESS_GPU_TESTS=cpu says so."""
