"""How often verdicts, gate and planner err: simulated, ours beside the old rules; writes results/calibration.md.

Seeds are made by adding noise to a real run's scores and ranking again, as much noise as gives the spread seen between
real seeds, so that ties, misses and few queries are as they are. Run `python -m benchmarks.calibration`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from harness.analysis.equivalence import PublishedValue, Verdict, decide
from harness.analysis.paired_queries import holm
from harness.analysis.planner import forecast_decision
from harness.analysis.seeds import t_quantile
from harness.analysis.spread import PRIOR_DEGREES, Array, Spread, drop_p_value, moderate
from harness.records.run import read_run
from harness.records.trec import read_qrels

SEED = 20260301
CUTOFF = 10
COMMON_SD = 0.003
SMALLEST_DROP = 0.0005
FRESH = 3
REFERENCES = 300
RUNS = {
    "bioasq-rebuilt": ("all-mpnet-base-v2.finetuned.seed=0.run.gz", 0.0023),
    "hpo": ("all-MiniLM-L6-v2.finetuned.seed=0.run.gz", 0.0029),
}
MARGIN = 0.01
INTRODUCTION = """\
Simulated with seed {seed}, {rounds} rounds a cell: a rate r has a standard error of sqrt(r (1 - r) / {rounds}).
In braces: with an effect of sd {common} common to all queries of a seed. Ours beside the old rules.
Made by `nox -s calibration`.
"""
SIZES = ((2, 1), (3, 1), (3, 3), (5, 3))
COUNTS = (2, 3, 5, 10)
SPREADS = (0.001, 0.002, 0.003, 0.005, 0.01)


@dataclass(frozen=True)
class SeedPool:
    """Simulated seeds of one model: ``means`` of mrr@10, ``gram`` of their values per query, shape (seeds, seeds)."""

    means: Array
    gram: Array
    queries: int

    def find_within(self, chosen: np.ndarray) -> Array:
        """Return each row's sum over queries of squared deviations between its seeds, by Q²; chosen is (rounds, n)."""
        diagonal = np.diag(self.gram)[chosen].sum(axis=1)
        total = self.gram[chosen[:, :, None], chosen[:, None, :]].sum(axis=(1, 2))
        return np.asarray((diagonal - total / chosen.shape[1]) / self.queries**2)


def make_pool(results: Path, experiment: str, *, size: int, queries: int | None = None, seed: int = SEED) -> SeedPool:
    """Rank a real run again with noise on its scores, ``size`` times."""
    name, spread = RUNS[experiment]
    run = read_run(results / "runs" / experiment / name)
    qrels = read_qrels(results / "runs" / experiment / "qrels.gz")
    scores, relevant = [], []
    for query, passages, values in zip(run.query_ids, run.passage_ids, run.scores, strict=True):
        places = [place for place, passage in enumerate(passages) if qrels[query].get(passage, 0) > 0]
        scores.append(values)
        relevant.append(places[0] if places else -1)
    table, place = np.asarray(scores, dtype=np.float32)[:queries], np.asarray(relevant)[:queries]
    low, high = 0.0, 0.2
    for _ in range(12):  # the spread grows with the noise
        middle = (low + high) / 2
        found = _rank(table, place, middle, 60, np.random.default_rng(seed)).mean(axis=0).std(ddof=1)
        low, high = (middle, high) if found < spread else (low, middle)
    ranked = _rank(table, place, (low + high) / 2, size, np.random.default_rng(seed + 1))
    return SeedPool(ranked.mean(axis=0), ranked.T @ ranked, len(ranked))


def _rank(
    scores: NDArray[np.float32], place: np.ndarray, noise: float, size: int, generator: np.random.Generator
) -> Array:
    """Return the reciprocal rank at 10 of each query and seed, shape (queries, seeds)."""
    found = np.zeros((len(scores), size))
    rows = np.arange(len(scores))
    for seed in range(size):
        noisy = scores + noise * generator.standard_normal(scores.shape, dtype=np.float32)
        ranks = 1 + (noisy > noisy[rows, np.maximum(place, 0)][:, None]).sum(axis=1)
        found[:, seed] = np.where((place >= 0) & (ranks <= CUTOFF), 1 / ranks, 0.0)
    return found


@dataclass(frozen=True)
class GateRates:
    """Rates of one gate: ``failed`` per round by our rule and by the old one."""

    ours: np.ndarray
    old: np.ndarray


def simulate_gate(
    pool: SeedPool, seeds: tuple[int, int], *, drop: float, common: float, rounds: int, seed: int, fixed: bool = False
) -> GateRates:
    """Draw reference, candidate and fresh seeds from a pool and judge them; ``fixed`` keeps one reference."""
    generator = np.random.default_rng(seed)
    n, k = seeds
    chosen = np.argsort(generator.random((rounds, len(pool.means))), axis=1)[:, : n + k + FRESH]
    shifts = generator.normal(0, common, chosen.shape) if common else np.zeros(chosen.shape)
    if fixed:
        chosen[:, :n], shifts[:, :n] = chosen[0, :n], shifts[0, :n]
    values = pool.means[chosen] + shifts
    values[:, n:] -= drop
    first = _test(pool, chosen, values, n, n + k)
    second = _test(pool, chosen, values, n, n + k + FRESH)
    fall = values[:, :n].mean(axis=1) - values[:, n:].mean(axis=1)
    ours = (first <= 0.05) & (second <= 0.01) & (fall > SMALLEST_DROP)
    spread = values[:, :n].std(axis=1, ddof=1)
    bound = t_quantile(0.95, n - 1) * spread * np.sqrt(1 / n + 1 / k)
    early = values[:, :n].mean(axis=1) - values[:, n : n + k].mean(axis=1)
    return GateRates(ours, (early >= bound) & (early > SMALLEST_DROP))


def simulate_golden(
    pool: SeedPool, seeds: tuple[int, int], *, drop: float, common: float, rounds: int, seed: int
) -> NDArray[np.bool_]:
    """Judge by the accepted reference and a golden one of as many seeds, within one Holm; say which rounds failed."""
    generator = np.random.default_rng(seed)
    n, k = seeds
    chosen = np.argsort(generator.random((rounds, len(pool.means))), axis=1)[:, : 2 * n + k + FRESH]
    values = pool.means[chosen] + (generator.normal(0, common, chosen.shape) if common else 0.0)
    values[:, 2 * n :] -= drop
    first, second, falls = [], [], []
    for start in (0, n):
        # The golden reference lies behind the accepted one; the candidate's seeds behind both.
        places = np.r_[start : start + n, 2 * n : 2 * n + k + FRESH]
        own, shown = chosen[:, places], values[:, places]
        first.append(_test(pool, own, shown, n, n + k))
        second.append(_test(pool, own, shown, n, n + k + FRESH))
        falls.append(shown[:, :n].mean(axis=1) - shown[:, n:].mean(axis=1))
    suspect = holm(np.stack(first, axis=1)) <= 0.05
    worse = holm(np.where(suspect, np.stack(second, axis=1), 1.0)) <= 0.01
    failed = suspect & worse & (np.stack(falls, axis=1) > SMALLEST_DROP)
    return np.asarray(failed.any(axis=1), dtype=np.bool_)


def _test(pool: SeedPool, chosen: np.ndarray, values: Array, n: int, end: int) -> Array:
    sides = ((chosen[:, :n], values[:, :n]), (chosen[:, n:end], values[:, n:end]))
    degrees = end - 2
    within = sum(pool.find_within(places) for places, _ in sides) / degrees
    between = sum(((side - side.mean(axis=1, keepdims=True)) ** 2).sum(axis=1) for _, side in sides) / degrees
    variance = moderate(within, between, degrees, 0.5 / pool.queries)
    drop = values[:, :n].mean(axis=1) - values[:, n:end].mean(axis=1)
    return drop_p_value(drop, variance, PRIOR_DEGREES + degrees, (n, end - n))


def simulate_verdicts(
    count: int, sd: float, difference: float, *, doubled: bool, rounds: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return our verdicts and the old rule's for a Gaussian draw; ``doubled``: queries explain half of the variance."""
    generator = np.random.default_rng(seed)
    total = sd * np.sqrt(2) if doubled else sd
    ours = generator.normal(difference, total, (rounds, count))
    theirs = np.round(generator.normal(0, total, rounds), 4)
    between = ours.var(axis=1, ddof=1)
    variance = moderate(np.full(rounds, sd**2), between, count - 1, 0.0)
    found = decide(ours.mean(axis=1) - theirs, variance, count, published=PublishedValue(0.0, 0.00005), margin=MARGIN)
    half = t_quantile(0.95, count - 1) * np.sqrt(between / count)
    old = np.abs(ours.mean(axis=1) - theirs) + half <= MARGIN
    return found, old


def simulate_planner(cases: int, *, seed: int) -> list[tuple[float, float, bool]]:
    """Return (promise, true sd, whether it was decided) for compatible draws of three seeds that can be decided."""
    generator = np.random.default_rng(seed)
    found = []
    for case in range(cases):
        sd = float(generator.choice([0.002, 0.003, 0.004, 0.005, 0.006]))
        difference = float(generator.choice([0.0, 0.005, 0.01, 0.02]))
        ours, theirs = generator.normal(difference, sd, 3), float(np.round(generator.normal(0, sd), 4))
        published = PublishedValue(theirs, 0.00005)
        between = float(ours.var(ddof=1))
        variance = float(moderate(sd**2, between, 2, 0.0))
        gap = float(ours.mean()) - theirs
        if decide([gap], [variance], 3, published=published, margin=MARGIN).item() != Verdict.COMPATIBLE:
            continue
        spread = Spread(float(np.sqrt(variance)), PRIOR_DEGREES + 2, sd, float(np.sqrt(between)))
        plan = forecast_decision(3, gap, spread, published=published, margin=MARGIN, step=1e-9, seed=case)
        if plan is None:
            continue
        every = np.concatenate([ours, generator.normal(difference, sd, plan.further_seeds)])
        again = moderate(sd**2, every.var(ddof=1), len(every) - 1, 0.0)
        verdict = decide([every.mean() - theirs], [again], len(every), published=published, margin=MARGIN).item()
        found.append((plan.probability, sd, verdict != Verdict.COMPATIBLE))
    return found


def render(results: Path, *, rounds: int, pool_size: int, cases: int) -> str:
    """Simulate everything and write the page."""
    sections = [
        ("Gate: unchanged pipelines that fail, and drops that are found", _list_gates(results, rounds, pool_size)),
        ("Gate given one reference (3 / 3 seeds)", _list_fixed(results, pool_size)),
        ("Gate with a golden reference beside it (3 / 3 seeds)", _list_golden(results, rounds, pool_size)),
        ("Verdicts, in braces where a common effect doubles the variance", _list_verdicts(rounds)),
        ("Planner: promised and delivered", _list_planner(cases)),
    ]
    head = INTRODUCTION.format(seed=SEED, rounds=rounds, common=COMMON_SD)
    return "\n".join(["# Calibration\n", head, *(f"## {title}\n\n{table}\n" for title, table in sections)])


def _list_gates(results: Path, rounds: int, pool_size: int) -> str:
    rows = []
    for experiment in RUNS:
        for queries in (None, 100):
            pool = make_pool(results, experiment, size=pool_size, queries=queries)
            for seeds in SIZES:
                pairs = [_gate_cells(pool, seeds, drop, rounds) for drop in (0.0, 0.005, 0.01)]
                cells = [cell for pair in pairs for cell in pair]
                rows.append((experiment, f"{pool.queries}", f"{seeds[0]} / {seeds[1]}", *cells))
    return _table(("run", "queries", "seeds", "false alarm", "old", "found 0.005", "old", "found 0.01", "old"), rows)


def _list_fixed(results: Path, pool_size: int) -> str:
    rows = []
    for experiment in RUNS:
        pool = make_pool(results, experiment, size=pool_size)
        rates = [[_fail_fixed(pool, common, SEED + one) for one in range(REFERENCES)] for common in (0.0, COMMON_SD)]
        rows.append((experiment, _braces([float(np.mean(np.asarray(found) > 0.05)) for found in rates])))
    return _table(("run", f"of {REFERENCES} references, those that fail more than 5 % of unchanged pipelines"), rows)


def _list_golden(results: Path, rounds: int, pool_size: int) -> str:
    rows = []
    for experiment in RUNS:
        pool = make_pool(results, experiment, size=pool_size)
        cells = [
            _braces(
                [
                    float(simulate_golden(pool, (3, 3), drop=drop, common=one, rounds=rounds, seed=SEED).mean())
                    for one in (0.0, COMMON_SD)
                ]
            )
            for drop in (0.0, 0.005, 0.01)
        ]
        rows.append((experiment, *cells))
    return _table(("run", "false alarm", "found 0.005", "found 0.01"), rows)


def _list_verdicts(rounds: int) -> str:
    rows = [(f"{count}", f"{sd:g}", *_verdict_cells(count, sd, rounds)) for count in COUNTS for sd in SPREADS]
    reproduced = ("reproduced if equal", "reproduced at the margin", "old")
    return _table(("seeds", "sd", *reproduced, "denied if equal", "not reproduced at 2 D"), rows)


def _list_planner(cases: int) -> str:
    rows = list_bins(simulate_planner(cases, seed=SEED))
    return _table(("promise", "cases", "mean promise", "delivered"), rows)


def _fail_fixed(pool: SeedPool, common: float, seed: int) -> float:
    found = simulate_gate(pool, (3, 3), drop=0.0, common=common, rounds=400, seed=seed, fixed=True)
    return float(found.ours.mean())


def _gate_cells(pool: SeedPool, seeds: tuple[int, int], drop: float, rounds: int) -> tuple[str, str]:
    found = [
        simulate_gate(pool, seeds, drop=drop, common=common, rounds=rounds, seed=SEED) for common in (0.0, COMMON_SD)
    ]
    return _braces([float(one.ours.mean()) for one in found]), _braces([float(one.old.mean()) for one in found])


def _verdict_cells(count: int, sd: float, rounds: int) -> tuple[str, ...]:
    same, edge, far = (
        [simulate_verdicts(count, sd, gap, doubled=doubled, rounds=rounds, seed=SEED) for doubled in (False, True)]
        for gap in (0.0, MARGIN, -2 * MARGIN)
    )
    denied = (Verdict.NOT_REPRODUCED, Verdict.DIFFERS, Verdict.EXCEEDS)
    return (
        _braces([float(np.mean(found == Verdict.REPRODUCED)) for found, _ in same]),
        _braces([float(np.mean(found == Verdict.REPRODUCED)) for found, _ in edge]),
        _braces([float(np.mean(old)) for _, old in edge]),
        _braces([float(np.mean(np.isin(found, denied))) for found, _ in same]),
        _braces([float(np.mean(found == Verdict.NOT_REPRODUCED)) for found, _ in far]),
    )


def list_bins(cases: Sequence[tuple[float, float, bool]]) -> list[tuple[str, str, str, str]]:
    """Compare promises with what was delivered, in fifths, and over all cases."""
    promises, decided = np.asarray([case[0] for case in cases]), np.asarray([case[2] for case in cases])
    rows = []
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        inside = (promises >= low) & (promises < low + 0.2)
        if inside.any():
            shown = f"{promises[inside].mean():.3f}", f"{decided[inside].mean():.3f}"
            rows.append((f"{low:.1f} to {low + 0.2:.1f}", f"{inside.sum()}", *shown))
    rows.append(("all", f"{len(cases)}", f"{promises.mean():.3f}", f"{decided.mean():.3f}"))
    return rows


def _braces(rates: Sequence[float]) -> str:
    return f"{rates[0]:.4f} {{{rates[1]:.4f}}}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return tabulate(rows, headers=columns, tablefmt="pipe", disable_numparse=True)


def main() -> None:
    """Write results/calibration.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--rounds", type=int, default=10_000)
    options = parser.parse_args()
    page = render(options.results, rounds=options.rounds, pool_size=400, cases=1500)
    (options.results / "calibration.md").write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
