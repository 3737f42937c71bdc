"""A report is one document that every renderer shows: sections of text, tables, charts and examples, and findings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

Level = Literal["error", "warning", "notice"]

# A number with what may follow one: a range, a spread, a unit. No part can be split two ways, so a hostile cell
# cannot make the search slow.
NUMBER = re.compile(r"(?:< |[+-])?[0-9][0-9.,]*%?(?: (?:±|to|/|s|min|h|GiB|MiB|USD|[+-]?[0-9][0-9.,]*%?))*|one seed|")


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """A line for a shell."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Text cells below column names.

    Attributes:
        columns: the names, one per cell of a row.
        rows: the cells.
        title: what the table is of, where the section's heading does not say it.
        mark: a reservation that holds for the whole table and is shown with it, as "rebuilt data".
        spare: names of columns that a narrow output may leave out, the first to go first.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str | None = None
    mark: str | None = None
    spare: tuple[str, ...] = ()

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold nothing but numbers; the first never does, since it names the rows."""
        return tuple(
            index > 0 and all(NUMBER.fullmatch(row[index]) for row in self.rows) for index in range(len(self.columns))
        )


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart with the name of its file and the words that stand for it where it cannot be seen."""

    name: str
    caption: str
    chart: Chart
    mark: str | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """Where the expected passage stood in one ranking, and the texts of the first passages above it."""

    label: str
    standing: str
    above: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One query: its question, the passage expected, and what ranked above that."""

    query_id: str
    question: str
    expected: str
    rankings: tuple[Ranking, ...]


Block: TypeAlias = Paragraph | Command | Table | Picture | Example


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with what stands below it; ``brief`` sections are shown where there is little room, too."""

    heading: str
    blocks: tuple[Block, ...]
    brief: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a reader should not miss: errors fail a run, warnings and notices do not.

    ``cell`` is the ``model/variant`` that it is about, where it is about one.
    """

    level: Level
    title: str
    text: str
    cell: str | None = None

    @property
    def sentence(self) -> str:
        """Cell and text."""
        return f"{self.cell}: {self.text}" if self.cell else self.text


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that was run or judged, as test reports list it; ``failure`` says why it failed."""

    group: str
    name: str
    seconds: float
    properties: tuple[tuple[str, str], ...] = ()
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All that is shown of one experiment or gate.

    Attributes:
        name: plain letters, digits, ``.``, ``_`` and ``-``: part of file names.
        title: the first line.
        conclusions: what may be concluded, a sentence each, before anything else.
        lead: paragraphs below them.
        mark: the reservation that holds for all of it, as "rebuilt data".
        verdicts: how many of each, in a line.
        findings: what a reader should not miss, errors first.
        sections: in the order shown.
        cases: for test reports.
    """

    name: str
    title: str
    conclusions: tuple[str, ...] = ()
    lead: tuple[str, ...] = ()
    mark: str | None = None
    verdicts: str = ""
    findings: tuple[Finding, ...] = ()
    sections: tuple[Section, ...] = ()
    cases: tuple[Case, ...] = ()

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Every picture, in the order shown."""
        return tuple(block for section in self.sections for block in section.blocks if isinstance(block, Picture))


def order_findings(findings: list[Finding]) -> tuple[Finding, ...]:
    """Put errors before warnings before notices, each kind in its own order."""
    levels: tuple[Level, ...] = ("error", "warning", "notice")
    return tuple(sorted(findings, key=lambda finding: levels.index(finding.level)))


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
class ContrastRow:
    """One cell minus another; ``bound`` is what its interval must lie above, if anything."""

    label: str
    difference: float
    low: float | None
    high: float | None
    bound: float | None


@dataclass(frozen=True, slots=True)
class ContrastChart:
    """Differences of cells in a measure, with their intervals."""

    measure: str
    rows: tuple[ContrastRow, ...]


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


Chart: TypeAlias = ValueChart | DifferenceChart | ContrastChart | LossChart | ChangeChart | HistoryChart | StageChart
