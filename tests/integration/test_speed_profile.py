"""A profile counts each operator to the part that it belongs to, by its name or what it was called in."""

from __future__ import annotations

import pytest


def test_operators_count_to_what_they_were_called_in() -> None:
    import torch

    from benchmarks.speed import profiling

    weight = torch.randn(64, 64, requires_grad=True)
    narrow = torch.randn(64, 64).bfloat16()
    with profiling._profiled() as found:
        loss = torch.nn.functional.gelu(narrow @ weight.to(torch.bfloat16)).float().sum()
        torch.autograd.backward(loss)
        with torch.profiler.record_function(profiling.DRAW):
            torch.rand(1000)
        torch.sort(narrow)
    parts = found["parts"]
    casts = profiling.PARTS["ToCopyBackward0"]
    assert {profiling.PRODUCTS, "GELU", casts, profiling.DRAW, profiling.OTHER, profiling.PYTHON} == set(parts)
    assert all(took >= 0 for took in parts.values())
    assert sum(parts.values()) == pytest.approx(found["seconds"], rel=0.2)


def test_a_part_s_clock_stands_while_another_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.speed import profiling

    now = iter(range(100))
    monkeypatch.setattr("benchmarks.speed.profiling.time.perf_counter", lambda: float(next(now)))
    clock = profiling._Clock("first")
    inner = clock.time(lambda: None, "inner")
    outer = clock.time(lambda: (inner(), inner()), "outer")
    outer()
    # Each turn of the clock is a second: into outer, twice into inner and out of it, and out of outer.
    assert clock.stop() == {"first": 2.0, "outer": 3.0, "inner": 2.0}
