"""Which runs are compared with which."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest

from harness.report.agreement_tables import FOLLOWING, MOST_PAIRED, pair_seeds
from tests.support.records import make_record, read_manifest

VALUES = {"mrr@10": [0.5]}


@pytest.mark.parametrize("seeds", [1, 2, 3, MOST_PAIRED])
def test_of_a_few_seeds_every_pair_is_compared(seeds: int) -> None:
    records = [make_record(VALUES, experiment=read_manifest(), seed=seed) for seed in range(seeds)]
    assert pair_seeds(records) == tuple(combinations(records, 2))


@pytest.mark.parametrize("seeds", [MOST_PAIRED + 1, 50])
def test_of_many_each_is_in_as_many_pairs_none_of_them_twice(seeds: int) -> None:
    records = [make_record(VALUES, experiment=read_manifest(), seed=seed) for seed in range(seeds)]
    pairs = [(one.trial.seed, other.trial.seed) for one, other in pair_seeds(records)]
    assert len({frozenset(pair) for pair in pairs}) == len(pairs) == FOLLOWING * seeds
    assert set(Counter(seed for pair in pairs for seed in pair).values()) == {2 * FOLLOWING}
