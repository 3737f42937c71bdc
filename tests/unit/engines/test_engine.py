"""Which engine may be asked for, and how."""

from __future__ import annotations

import importlib.util

import pytest

from harness.engines.engine import EngineConfig
from harness.errors import HarnessError


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (EngineConfig("slurm"), "engine is 'slurm', expected local or ray"),
        (EngineConfig("local", parallel=2), "parallel: only with the engine ray"),
        (EngineConfig("local", address="auto", gpus_per_trial=0.0), "address, gpus_per_trial: only with the engine"),
        (EngineConfig("ray", parallel=0), "parallel is 0, expected at least 1"),
        (EngineConfig("ray", cpus_per_trial=0), "cpus_per_trial is 0, expected at least 1"),
        (EngineConfig("ray", gpus_per_trial=-0.5), "gpus_per_trial is -0.5, expected at least 0"),
        (EngineConfig("ray", gpus_per_trial=float("nan")), "gpus_per_trial is nan, expected at least 0"),
        (EngineConfig("ray", parallel=10**5000), "parallel is a number of type int with very many digits, expected at"),
        (EngineConfig("ray", cpus_per_trial=1025), "cpus_per_trial is 1025, expected at most 1024"),
        (EngineConfig("ray", gpus_per_trial=float("inf")), "gpus_per_trial is inf, expected at most 1024"),
    ],
)
def test_contradictions_are_refused(config: EngineConfig, said: str) -> None:
    with pytest.raises(HarnessError, match=said):
        config.check()


@pytest.mark.parametrize("config", [EngineConfig(), EngineConfig("ray", "auto", 4, 0.5, 2), EngineConfig("ray")])
def test_what_can_be_done_passes(config: EngineConfig) -> None:
    config.check()


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="ray is installed")
def test_without_the_package_ray_its_engine_says_what_to_install() -> None:
    from harness.engines.choice import open_engine

    with pytest.raises(HarnessError, match=r"needs the package: pip install 'retrieval-harness\[ray\]'"):
        open_engine(EngineConfig("ray"), None, None, None)  # type: ignore[arg-type]
