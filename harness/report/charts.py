"""Charts are what is drawn, as plain numbers: how they look is decided where they are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class ValueRow:
    """One measure before and after fine-tuning; ``low`` and ``high`` are the interval of ``after``."""

    label: str
    before: float | None
    after: float | None
    low: float | None
    high: float | None
    published_before: float | None
    published_after: float | None


@dataclass(frozen=True, slots=True)
class ValueChart:
    """Published and ours per measure; ``note`` says what the whiskers are."""

    rows: tuple[ValueRow, ...]
    note: str


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """Ours minus published for one claim; without an interval there was nothing trained, or one seed."""

    label: str
    trained: bool
    difference: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class DifferenceChart:
    """Differences beside the range ±``margin`` that counts as reproduced."""

    rows: tuple[DifferenceRow, ...]
    margin: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Training loss per step of one seed."""

    label: str
    steps: tuple[int, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LossChart:
    """Loss curves, one per seed."""

    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True)
class ChangeChart:
    """Every query's change, largest gain first; ``measure`` is what changed."""

    measure: str
    changes: tuple[float, ...]
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """A value at a commit; ``low`` and ``high`` are its smallest and largest seed."""

    commit: str
    date: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class HistoryChart:
    """A measure over the commits that were accepted; ``bound`` is its threshold."""

    measure: str
    lines: tuple[tuple[str, tuple[HistoryPoint, ...]], ...]
    bound: float | None


@dataclass(frozen=True, slots=True)
class StageRow:
    """What each stage of a trial took, in seconds."""

    label: str
    seconds: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class StageChart:
    """Where time goes."""

    rows: tuple[StageRow, ...]


Chart: TypeAlias = ValueChart | DifferenceChart | LossChart | ChangeChart | HistoryChart | StageChart
