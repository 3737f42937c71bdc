"""Our paired test against ranx's own, on the same differences (apart from the unit tests: ranx loads numba)."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from harness.analysis.paired_queries import sign_flip_test


def reciprocal_ranks(seed: int, gain: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    before = 1 / generator.integers(1, 11, size=707)
    better = generator.random(707) < gain
    return before, np.where(better, 1.0, 1 / generator.integers(1, 11, size=707))


@pytest.mark.parametrize(("seed", "gain"), [(1, 0.0), (2, 0.03), (3, 0.06), (4, 0.3)])
def test_sign_flips_agree_with_ranx_fisher_randomization(seed: int, gain: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba's own deprecations, at import
        from ranx.statistical_tests import fisher_randomization_test

    before, after = reciprocal_ranks(seed, gain)
    theirs, _ = fisher_randomization_test(before, after, n_permutations=20_000, max_p=0.05, random_seed=7)
    ours = sign_flip_test(after - before, seed=7, rounds=20_000)[0]
    # Both are Monte-Carlo estimates, and ranx seeds only one of its threads: five standard errors of their
    # difference, which chance exceeds once in two million times, and 1 in 20,000 for the + 1.
    assert ours == pytest.approx(theirs, abs=5 * np.sqrt(2 * ours * (1 - ours) / 20_000) + 1 / 20_000)


@pytest.mark.parametrize(("seed", "gain"), [(1, 0.0), (2, 0.03), (3, 0.06)])
def test_sign_flips_agree_with_ranx_students_test_on_many_queries(seed: int, gain: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ranx.statistical_tests import paired_student_t_test

    before, after = reciprocal_ranks(seed, gain)
    theirs, _ = paired_student_t_test(before, after, max_p=0.05)
    ours = sign_flip_test(after - before, seed=7, rounds=20_000)[0]
    assert ours == pytest.approx(theirs, abs=0.015)
