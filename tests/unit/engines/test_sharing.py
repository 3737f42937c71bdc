"""How many trials shared a machine."""

from __future__ import annotations

import pytest

from harness.engines.sharing import Span, count_together

MINE = Span("here", 10.0, 20.0)


@pytest.mark.parametrize(
    ("others", "count"),
    [
        ([], 1),
        ([Span("there", 10.0, 20.0)], 1),
        ([Span("here", 0.0, 10.0), Span("here", 20.0, 30.0)], 1),
        ([Span("here", 0.0, 11.0)], 2),
        ([Span("here", 0.0)], 2),
        ([Span("here", 19.0)], 2),
        ([Span("here", 5.0, 12.0), Span("here", 15.0, 30.0)], 2),
        ([Span("here", 5.0, 16.0), Span("here", 15.0, 30.0)], 3),
        ([Span("here", 0.0, 30.0), Span("here", 12.0, 13.0), Span("here", 14.0, 15.0)], 3),
    ],
)
def test_the_most_at_once_are_counted_on_the_same_machine_alone(others: list[Span], count: int) -> None:
    assert count_together(MINE, [MINE, *others]) == count


def test_one_that_runs_still_shares_with_who_comes() -> None:
    mine = Span("here", 10.0)
    assert count_together(mine, [mine, Span("here", 1000.0, 1001.0)]) == 2
