"""The claims of an experiment as cases of this repository; they come after the trials."""

from harness.pytest_cases import test_experiment_claims

__all__ = ["test_experiment_claims"]
