"""Two sets of records are paired where their test set is the same, and refused by name where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.analysis.pairing import compare_sets
from harness.cli.main import main
from harness.errors import RecordError
from harness.records.record import Artifact, Record, write_record
from tests.support.manifests import parse
from tests.support.records import change_result, make_record

MEASURES = ("mrr@10", "accuracy@1", "map@100")
BASE = np.random.default_rng(0).choice([0.25, 0.5], 80)


def make_set(name: str = "tiny", *, gain: float = 0.0, seeds: tuple[int, ...] = (0, 1)) -> list[Record]:
    experiment = parse().replace(name=name)

    def values(shift: float, seed: int) -> dict[str, tuple[float, ...]]:
        noise = np.random.default_rng(seed).normal(0, 0.02, len(BASE))
        return dict.fromkeys(MEASURES, tuple(np.clip(BASE + shift + noise, 0, 1).tolist()))

    records = [make_record(values(0.0, 9), experiment=experiment, variant="baseline", model="small")]
    return records + [
        make_record(values(gain, seed + 10 * len(name)), experiment=experiment, model="small", seed=seed)
        for seed in seeds
    ]


def test_every_cell_that_both_have_is_compared() -> None:
    base, tuned = compare_sets(make_set(gain=0.1), make_set("another"))
    assert (base.a, base.b) == (("small", "baseline"),) * 2
    assert base.contrast is not None
    assert base.contrast.difference == 0
    assert base.better is None
    assert tuned.contrast is not None
    assert tuned.contrast.difference == pytest.approx(0.1, abs=0.02)
    assert tuned.better == ("small", "finetuned")
    assert tuned.contrast.p_value is not None
    assert tuned.p_holm == pytest.approx(2 * tuned.contrast.p_value)


def test_a_named_cell_is_compared_with_its_like_or_the_one_that_is_named_too() -> None:
    a, b = make_set(gain=0.1), make_set("another")
    (same,) = compare_sets(a, b, cell_a="small/finetuned")
    assert (same.a, same.b) == (("small", "finetuned"),) * 2
    (other,) = compare_sets(a, b, cell_a="small/finetuned", cell_b="small")
    assert (other.a, other.b) == (("small", "finetuned"), ("small", "baseline"))


def test_a_test_set_of_another_name_is_the_same_if_its_queries_and_judgements_are() -> None:
    a, b = make_set(), make_set("another")
    renamed = [record.replace(evaluations={"faq/test": record.result}) for record in b]
    assert [one.on for one in compare_sets(a, renamed)] == ["tiny/test", "tiny/test"]


@pytest.mark.parametrize(
    "change",
    [
        {"qrels": Artifact(path="runs/qrels.gz", sha256="b" * 64)},
        {"query_ids": tuple(f"other{number}" for number in range(len(BASE)))},
    ],
    ids=["judgements", "queries"],
)
def test_another_test_set_cannot_be_paired_and_is_named(change: dict[str, object]) -> None:
    b = [change_result(record, **change) for record in make_set("another")]
    with pytest.raises(RecordError, match="another/small/baseline cannot be paired with tiny/small/baseline") as caught:
        compare_sets(make_set(), b)
    assert "80 queries, 10 passages, judgements aaaaaaaaaaaa" in str(caught.value)


def test_what_is_not_there_is_named_with_what_is() -> None:
    with pytest.raises(RecordError, match=r"B has no records of small/plain; it has small/baseline, small/finetuned"):
        compare_sets(make_set(), make_set("another"), cell_a="small", cell_b="small/plain")
    with pytest.raises(RecordError, match="no cell in common: A has small/baseline; B has small/finetuned"):
        compare_sets(make_set()[:1], make_set()[1:])
    with pytest.raises(RecordError, match="A: expected records of one experiment, found another, tiny"):
        compare_sets([*make_set(), *make_set("another")], make_set())
    with pytest.raises(RecordError, match="tiny/small/baseline: two records of this trial"):
        compare_sets([*make_set(), make_set()[0]], make_set())


def test_the_command_prints_a_table_and_ends_with_2_where_nothing_can_be_paired(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for record in (*make_set(gain=0.1), *make_set("another")):
        write_record(record, tmp_path)
    a, b = str(tmp_path / "records" / "tiny"), str(tmp_path / "records" / "another")
    assert main(["compare", a, b, "--cell-a", "small/finetuned"]) == 0
    shown = capsys.readouterr().out
    assert "a is better" in shown
    assert main(["compare", a, b, "--cell-a", "big"]) == 2
    assert "A has no records of big/baseline; it has" in capsys.readouterr().err
    assert main(["compare", a, str(tmp_path / "nothing")]) == 2
