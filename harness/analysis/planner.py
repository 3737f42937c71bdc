"""How many further seeds would decide what is only compatible yet, and how probably."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis.equivalence import Array, PublishedValue, Verdict, can_establish, decide
from harness.analysis.spread import PRIOR_DEGREES, Spread, moderate

POWER = 0.80
NEAR = 0.05
FURTHER_SEEDS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20)
DRAWS = 4000


@dataclass(frozen=True, slots=True)
class Forecast:
    """With ``further_seeds`` more seeds the verdict is other than compatible with this ``probability``."""

    further_seeds: int
    probability: float


def forecast_decision(
    count: int,
    difference: float,
    spread: Spread,
    *,
    published: PublishedValue,
    margin: float,
    step: float,
    choices: Sequence[int] = FURTHER_SEEDS,
    seed: int = 0,
) -> Forecast | None:
    """Return the fewest further seeds that decide with 80 %, or those beyond which more seeds hardly help.

    The probability is averaged over what is not known, as assurance is (O'Hagan, Stevens & Campbell 2005): with d = d0
    + n - 1, sigma² ~ d s² / chi²(d) and our true mean ~ N(mean, sigma²/n); the printed value stays as it is printed.
    Further seeds are drawn from these, pooled with those at hand, and judged by `decide`.

    Args:
        count: n, seeds at hand, 2 or more.
        difference: their mean minus the printed value.
        spread: between them.
        published: the printed value.
        margin: D.
        step: g, the smallest step of the measure.
        choices: numbers of further seeds that are looked at, ascending.
        seed: of the random draws.

    Returns:
        The forecast, or None where the printed draws cannot decide, however many seeds are added.
    """
    if not can_establish(spread.sd, published, margin):
        return None
    probabilities = forecast_powers(
        count, difference, spread, published=published, margin=margin, step=step, choices=choices, seed=seed
    )
    wanted = min(POWER, float(probabilities.max()) - NEAR)
    place = int(np.argmax(probabilities >= wanted))
    return Forecast(choices[place], float(probabilities[place]))


def forecast_powers(
    count: int,
    difference: float,
    spread: Spread,
    *,
    published: PublishedValue,
    margin: float,
    step: float,
    choices: Sequence[int],
    seed: int = 0,
) -> Array:
    """Return the probability of a decision for each number of further seeds, shape (choices,); see above."""
    generator = np.random.default_rng(seed)
    degrees = PRIOR_DEGREES + count - 1
    sigma = spread.sd * np.sqrt(degrees / generator.chisquare(degrees, DRAWS))
    centre = difference + sigma / np.sqrt(count) * generator.standard_normal(DRAWS)
    found = []
    for further in choices:
        total = count + further
        mean = centre + sigma / np.sqrt(further) * generator.standard_normal(DRAWS)
        own = sigma**2 * generator.chisquare(further - 1, DRAWS) if further > 1 else 0.0
        squares = (count - 1) * spread.between**2 + own + count * further / total * (mean - difference) ** 2
        pooled = (count * difference + further * mean) / total
        variance = moderate(np.full(DRAWS, spread.within**2), squares / (total - 1), total - 1, step)
        verdicts = decide(pooled, variance, total, published=published, margin=margin)
        found.append(float(np.mean(verdicts != Verdict.COMPATIBLE)))
    return np.asarray(found)
