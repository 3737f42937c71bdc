"""The page on two stacks says in one sentence what the libraries changed, and step by step where they part."""

from __future__ import annotations

import re

from harness.report.document import Report, Table
from harness.report.stack import build_stack_report
from tests.support.stacks import IN_ORDER, make_stack_record, make_training

WELL, WORSE = [1.0] * 300 + [0.5] * 100, [1.0] * 200 + [0.5] * 200


def find_rows(report: Report, heading: str, table: int = 0) -> dict[str, tuple[str, ...]]:
    """Return a section's table as first cell -> the others."""
    (section,) = [one for one in report.sections if one.heading == heading]
    tables = [block for block in section.blocks if isinstance(block, Table)]
    return {row[0]: row[1:] for row in tables[table].rows}


def test_a_sampler_that_shuffles_now_is_named_and_the_rest_is_the_same() -> None:
    report = build_stack_report([make_stack_record()])
    (sentence,) = report.conclusions
    assert sentence.startswith(
        "small: the libraries changed the batches (there rows in file order, the same for every seed; today shuffled, "
        "the same for every seed); tokens are the same, embeddings differ by at most 2e-07; mrr@10 after training "
    )
    steps = find_rows(report, "Step by step")
    assert {steps[name][-1] for name in ("tokens", "layers", "embeddings", "mrr@10 untrained")} == {"same"}
    assert steps["batches"][-1] == "0 of 6 are the same"
    assert steps["loss of step 1 on the same batch"][-1] == "same"


def test_what_parts_before_training_is_named() -> None:
    record = make_stack_record()
    inputs = record.inputs.replace(differing_tokens=3, layer_differences=(0.0, 0.01), embedding_difference=0.02)
    report = build_stack_report([record.replace(inputs=inputs)])
    assert "changed the tokens of 3 of 10 texts and embeddings by 2.0e-02 and the batches" in report.conclusions[0]
    steps = find_rows(report, "Step by step")
    assert (steps["tokens"][-1], steps["layers"][-1], steps["embeddings"][-1]) == (
        "differs",
        "differ from layer 1 on",
        "differs",
    )


def test_the_change_of_the_value_is_split_into_arithmetic_and_batches() -> None:
    old = [make_training(seed, per_query=WORSE) for seed in (0, 1, 2)]
    new = [make_training(seed, rows=IN_ORDER[::-1], per_query=WELL) for seed in (0, 1, 2)]
    record = make_stack_record()
    untrained = record.published.untrained.replace(per_query=tuple(WELL), values={"mrr@10": 0.875})
    sides = {
        name: side.replace(untrained=untrained, trainings=tuple(trainings))
        for name, side, trainings in (("published", record.published, old), ("today", record.today, new))
    }
    report = build_stack_report([record.replace(**sides, replayed=tuple(old))])
    changes = find_rows(report, "What changed the value", 1)
    assert changes["arithmetic and dropout's draws"][2:] == ("+0.0000", "-0.0013 to +0.0013", "equivalent")
    assert changes["the batches"][2] == "+0.1250"
    assert changes["the batches"][-1] == "different"
    assert re.search(r"in all by \+0.1250 \(.*: different\), on the same batches by \+0.0000", report.conclusions[0])


def test_other_draws_of_dropout_are_told_from_other_arithmetic() -> None:
    again = make_training(0, loss=(0.6, 0.4, 0.3))
    report = build_stack_report([make_stack_record(replayed=(again,))])
    assert find_rows(report, "Step by step")["loss of step 1 on the same batch"] == (
        "0.5000",
        "0.6000",
        "other draws of dropout",
    )


def test_what_was_not_run_is_not_judged() -> None:
    report = build_stack_report([make_stack_record((), (), ())])
    assert report.conclusions[0].endswith("embeddings differ by at most 2e-07; no training was compared.")
    one = build_stack_report([make_stack_record((make_training(0),), (make_training(0),), (make_training(0),))])
    assert "in all by +0.0000 (one seed)" in one.conclusions[0]
    assert "changed nothing that was looked at" in one.conclusions[0]
