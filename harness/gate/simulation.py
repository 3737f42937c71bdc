"""How often this very gate errs: its two stages simulated for the seeds, spreads and models at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.analysis.paired_queries import holm
from harness.analysis.spread import PRIOR_DEGREES, Array, drop_p_value, moderate
from harness.gate.policy import Quality
from harness.gate.quality import QualityCell

ROUNDS = 4000
SEED = 0
DROPS = (0.005, 0.01)
FRESH_SEEDS = 3


@dataclass(frozen=True, slots=True)
class ErrorRates:
    """What the simulation found.

    Attributes:
        suspect: how often an unchanged pipeline has to run further seeds.
        false_alarm: how often it fails after both stages.
        power: drop -> how often a drop of that size in one model fails, for the model with the largest spread.
    """

    suspect: float
    false_alarm: float
    power: dict[float, float]


@dataclass(frozen=True, slots=True)
class SimulatedModel:
    """What the simulation knows of one model: seeds of each reference, of the candidate, s_w of the noise and g²."""

    references: tuple[int, ...]
    candidates: int
    within: float


def simulate_gate(
    cells: Sequence[QualityCell], policy: Quality, *, rounds: int = ROUNDS, seed: int = SEED
) -> ErrorRates:
    """Simulate both stages with as many models, references and seeds, and the spread that single queries explain.

    A seed's mean is drawn as N(0, s_w²), with s_w that of the records and nothing common to all queries, then judged as
    `judge_quality` does: moderated spread, Holm, three fresh seeds where suspect, the second level and the smallest
    drop. The further chance that a common effect of a seed adds is in results/calibration.md.

    Args:
        cells: those of the gate; the deciding ones of trained models count.
        policy: levels and smallest drop.
        rounds: number of simulated gates; the standard error of a rate r is sqrt(r (1 - r) / rounds).
        seed: of the draws.
    """
    models = _list_models(cells)
    if not models:
        return ErrorRates(0.0, 0.0, {})
    generator = np.random.default_rng(seed)
    suspect, failed = _simulate(models, [0.0] * len(models), policy, rounds, generator)
    worst = max(range(len(models)), key=lambda index: models[index].within)
    power = {}
    for drop in DROPS:
        drops = [drop if index == worst else 0.0 for index in range(len(models))]
        _, found = _simulate(models, drops, policy, rounds, generator)
        power[drop] = float(found.mean())
    return ErrorRates(float(suspect.mean()), float(failed.mean()), power)


def _list_models(cells: Sequence[QualityCell]) -> list[SimulatedModel]:
    deciding = [cell for cell in cells if cell.deciding and cell.spread is not None]
    groups = dict.fromkeys((cell.group, cell.measure) for cell in deciding)
    models = []
    for group in groups:
        own = [cell for cell in deciding if (cell.group, cell.measure) == group]
        candidates = len(own[0].candidate_seeds) - (FRESH_SEEDS if own[0].stage > 1 else 0)
        # No smaller than what the moderated spread allows for, where all seeds agree.
        within = max(cell.spread.within or cell.spread.sd for cell in own if cell.spread is not None)
        models.append(SimulatedModel(tuple(len(cell.reference_seeds) for cell in own), candidates, within))
    return models


def _simulate(
    models: Sequence[SimulatedModel],
    drops: Sequence[float],
    policy: Quality,
    rounds: int,
    generator: np.random.Generator,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return, for every round, whether any model was suspect and whether any failed, shape (rounds,) each."""
    first, second, falls = [], [], []
    for model, drop in zip(models, drops, strict=True):
        new = generator.normal(-drop, model.within, (rounds, model.candidates + FRESH_SEEDS))
        for count in model.references:
            old = generator.normal(0.0, model.within, (rounds, count))
            first.append(find_p_values(old, new[:, : model.candidates], model.within))
            second.append(find_p_values(old, new, model.within))
            falls.append(old.mean(axis=1) - new.mean(axis=1))
    suspect = holm(np.stack(first, axis=1)) <= 1 - policy.level
    pooled = holm(np.where(suspect, np.stack(second, axis=1), 1.0)) <= 1 - policy.final_level
    failed = suspect & pooled & (np.stack(falls, axis=1) > policy.smallest_drop)
    return np.asarray(suspect.any(axis=1)), np.asarray(failed.any(axis=1))


def find_p_values(old: Array, new: Array, within: Array | float, step: float = 0.0) -> Array:
    """Return the p-value of each round's drop, as `judge_quality` computes it.

    Args:
        old: means of the reference's seeds, shape (rounds, n).
        new: means of the candidate's seeds, shape (rounds, k).
        within: s_w, of all rounds or of each.
        step: g, the smallest step of the measure.
    """
    degrees = old.shape[1] + new.shape[1] - 2
    squares = sum(((side - side.mean(axis=1, keepdims=True)) ** 2).sum(axis=1) for side in (old, new))
    variance = moderate(np.broadcast_to(np.square(within), squares.shape), squares / degrees, degrees, step)
    drop = old.mean(axis=1) - new.mean(axis=1)
    return drop_p_value(drop, variance, PRIOR_DEGREES + degrees, (old.shape[1], new.shape[1]))
