"""The table of speed has a row for whatever was measured, and none for what an older measurement did not have."""

from __future__ import annotations

from typing import Any

from benchmarks.speed.table import render

ENVIRONMENT = {"cpu": "some CPU", "cpu_count": 2, "memory_bytes": 2**34, "packages": {"torch": "2"}, "python": "3.11"}
PROMPTED = "seconds to evaluate with prompts"


def make_record(*, prompted: bool) -> dict[str, Any]:
    """Return a record of one machine and one round, in which the harness is twice as fast."""

    def measure(seconds: float) -> dict[str, Any]:
        more = {"evaluate_prompted_seconds": seconds * 1.5} if prompted else {}
        return {"step_seconds": [9.0, seconds], "evaluate_seconds": seconds, "peak_memory_bytes": 2**30, **more}

    limits = {"training_step_seconds": 1.0, "evaluate_seconds": 1.0}
    model = {
        "model": "a",
        "pairs": 64,
        "passages": 60,
        "rounds": {"plain": [measure(4.0)], "harness": [measure(2.0)]},
        "limits": [limits | ({"evaluate_prompted_seconds": 1.5} if prompted else {})],
        "largest_difference": 0.0,
    }
    part = {"created": "2026-01-01T00:00:00", "revision": "a" * 40, "data": "folder x", "found": [model]}
    return {"machines": {"x": {"environment": ENVIRONMENT, "parts": {"steps": part}}}}


def list_rows(text: str) -> dict[str, list[str]]:
    """Return the cells of the table's rows by their labels."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {label: cells for label, *cells in lines}


def test_evaluating_with_prompts_is_a_row_of_its_own() -> None:
    row = list_rows(render(make_record(prompted=True)))[PROMPTED]
    assert row == [
        "6.00 (6.00 to 6.00)", "3.00 (3.00 to 3.00)", "2.00 (2.00 to 2.00) times", "1.50 (1.50 to 1.50)", "50 %"
    ]  # fmt: skip


def test_what_was_not_measured_is_no_row() -> None:
    rows = list_rows(render(make_record(prompted=False)))
    assert PROMPTED not in rows
    assert rows["seconds to evaluate"][:2] == ["4.00 (4.00 to 4.00)", "2.00 (2.00 to 2.00)"]


def test_fewer_threads_than_cores_are_told_where_they_were_noted() -> None:
    told = []
    for threads in ({}, {"threads": 1}, {"threads": 2}):
        record = make_record(prompted=False)
        record["machines"]["x"]["parts"]["steps"] |= threads
        told.append("with 1 of 2 threads" in render(record))
    assert told == [False, True, False]


def test_workers_are_held_against_as_many_times_one_of_them() -> None:
    seconds = {"local": [100.0, 120.0], "ray 1": [120.0, 120.0], "ray 2": [80.0, 60.0]}
    found = {"experiment": "e", "trials": 10, "cores": 2, "seconds": seconds}
    part = {"created": "2026-01-01T00:00:00+00:00", "revision": "a" * 40, "data": "d", "found": found}
    page = render({"machines": {"m": {"environment": ENVIRONMENT, "parts": {"cluster": part}}}})
    (line,) = [line for line in page.splitlines() if line.startswith("| ray      | 2 ")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["ray", "2", "70.00 (60.00 to 80.00)", "8.6", "1.62 (1.25 to 2.00) times", "88 %"]
    assert "e with 10 trials, each with one thread, on 2 cores" in page


def test_shares_of_a_profile_are_of_each_one_s_own_time_and_small_ones_are_no_row() -> None:
    training = {"seconds": 2.0, "parts": {"products": 1.0, "dropout": 0.9, "nothing": 0.001}}
    evaluating = {"seconds": 4.0, "parts": {"products": 3.0}}
    model = {"model": "a", "pairs": 96, "passages": 60, "steps": 2, "training": training, "evaluating": evaluating}
    search = {"passages": 1000, "queries": 10, "seconds": 5.0, "parts": {"floors": 4.0}}
    part = {"created": "2026-01-01T00:00:00", "revision": "a" * 40, "data": "folder x"}
    found = {"models": [model], "search": search}
    page = render({"machines": {"x": {"environment": ENVIRONMENT, "parts": {"profile": part | {"found": found}}}}})
    rows = list_rows(page)
    assert (rows["products"], rows["dropout"], rows["floors"]) == (["50 %", "75 %"], ["45 %", "0 %"], ["80 %"])
    assert "nothing" not in rows
    assert "2 training steps of a (1.00 s each)" in page
