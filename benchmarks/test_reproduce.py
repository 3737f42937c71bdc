"""The trials of an experiment as cases of this repository: `pytest benchmarks --harness-experiment NAME`."""

from harness.pytest_cases import test_experiment_trial

__all__ = ["test_experiment_trial"]
