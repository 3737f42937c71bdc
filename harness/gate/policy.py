"""A gate's policy: how much worse is too much, and how sure one must be of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from harness.core.schema import Frozen, decode, read_text
from harness.core.toml import parse_toml
from harness.errors import ManifestError
from harness.experiment.data import refuse_repeats

POLICY_LIMIT_BYTES = 16 * 1024
MEBIBYTE = 2**20

Level = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
NotNegative = Annotated[float, Field(ge=0)]


class Quality(Frozen):
    """When a measure counts as worse.

    Attributes:
        level: of the first stage, Holm over all models and references: what falls below it is suspect.
        final_level: of the second stage, where further seeds are pooled: what falls below it is a regression.
        smallest_drop: a mean that fell by no more never fails, however sure it is.
        primary: the measures that decide; by default the experiment's own primary one.
        seeds: the seeds that the candidate must have at first; by default those of the reference.
    """

    level: Level = 0.95
    final_level: Level = 0.99
    smallest_drop: NotNegative = 0.0005
    primary: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] | None = None

    @field_validator("primary", "seeds")
    @classmethod
    def _distinct(cls, items: tuple[object, ...] | None, info: ValidationInfo) -> tuple[object, ...] | None:
        refuse_repeats(items or (), "seed" if info.field_name == "seeds" else "measure")
        return items


class Limit(Frozen):
    """By how much a cost may grow: ``relative`` of the reference's mean, and ``floor`` in its own unit."""

    relative: NotNegative
    floor: NotNegative


class Costs(Frozen):
    """When a cost counts as worse: past its relative limit, its floor and, at ``level``, its noise.

    Attributes:
        fail: whether that fails the gate. It does so only against a reference run in the same job, interleaved with the
            candidate (``--rerun-reference``); machines differ by more from one session to the next than code does.
        level: 1 minus the false alarm rate over all costs.
        train_seconds: limits of training time.
        evaluate_seconds: limits of evaluation time.
        peak_memory_bytes: limits of memory.
        peak_device_memory_bytes: limits of GPU memory.
    """

    fail: bool = False
    level: Level = 0.95
    train_seconds: Limit = Limit(relative=0.2, floor=5.0)
    evaluate_seconds: Limit = Limit(relative=0.2, floor=5.0)
    peak_memory_bytes: Limit = Limit(relative=0.1, floor=256.0 * MEBIBYTE)
    peak_device_memory_bytes: Limit = Limit(relative=0.1, floor=256.0 * MEBIBYTE)


class Policy(Frozen):
    """A whole policy; every part of it may be left out."""

    schema_version: Literal[1] = 1
    quality: Quality = Quality()
    costs: Costs = Costs()


def read_policy(path: Path) -> Policy:
    """Parse a policy.

    Raises:
        ManifestError: naming the file, the key and what was expected.
    """
    text = read_text(path, limit_bytes=POLICY_LIMIT_BYTES, error=ManifestError)
    data = parse_toml(text, place=str(path), error=ManifestError)
    return decode(Policy, data, place=str(path), error=ManifestError)
