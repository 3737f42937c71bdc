"""The tables of how it was run."""

from __future__ import annotations

import pytest

from harness.experiment.manifest import Experiment
from harness.records.record import AdapterLog, Execution, LossPoint, MiningLog, Record, RowsUsed, SelectionLog
from harness.report.document import Command, Paragraph
from harness.report.run_tables import list_commands, list_costs, list_mixed_devices, list_poor_training
from tests.support.records import MACHINE, make_record, read_manifest, spread

SHARED = Execution(engine="ray", attempts=1, trials_on_machine=3, gpus_per_trial=0.5)


@pytest.fixture
def records() -> list[Record]:
    """Three seeds of one machine."""
    experiment: Experiment = read_manifest()
    values = {measure: spread(0.8) for measure in experiment.evaluation.measures}
    machine = MACHINE.replace(threads=2, cpu_capability="AVX2")
    return [make_record(values, experiment=experiment, seed=seed, environment=machine) for seed in range(3)]


def read_paragraphs(records: list[Record]) -> str:
    """Return what stands around the table of costs."""
    return "\n".join(block.text for block in list_costs(records).blocks if isinstance(block, Paragraph))


def test_what_an_installed_harness_ran_is_run_again_without_a_noxfile(records: list[Record]) -> None:
    experiment = records[0].experiment
    installed = [record.replace(environment=record.environment.replace(commit=None)) for record in records]
    (block,) = list_commands(installed, experiment).blocks
    assert block == Command(f"harness run {experiment.name}.toml --seeds 0,1,2")
    (block,) = list_commands(records, experiment).blocks
    assert block == Command(f"python3 -m nox -s reproduce -- --experiment {experiment.name} --seeds 0,1,2")


def test_seeds_of_one_cell_on_different_devices_are_a_finding(records: list[Record]) -> None:
    assert list(list_mixed_devices(records)) == []
    for changed in (
        records[2].replace(device="cuda:0", device_name="some GPU"),
        records[2].replace(environment=records[2].environment.replace(cpu_capability="AVX512")),
        records[2].replace(environment=records[2].environment.replace(threads=4)),
    ):
        (finding,) = list_mixed_devices([*records[:2], changed])
        assert (finding.level, finding.title) == ("warning", "seeds on different devices")
        assert finding.text.startswith("some CPU (2 threads, AVX2): seeds 0, 1; ")
        assert finding.text.endswith(": seeds 2")


def test_other_devices_in_other_cells_are_none(records: list[Record]) -> None:
    experiment = records[0].experiment
    values = dict(records[0].per_query)
    untrained = make_record(values, experiment=experiment, variant="baseline", device="cuda:0", device_name="some GPU")
    assert list(list_mixed_devices([*records, untrained])) == []


def test_training_that_used_little_or_learned_nothing_is_a_finding(records: list[Record]) -> None:
    assert list(list_poor_training(records)) == []
    assert records[0].training is not None
    rows = RowsUsed(given=1000, used=995, batches=100, batches_of_one=1)
    whole = records[0].training.replace(rows=rows)
    assert list(list_poor_training([one.replace(training=whole) for one in records])) == []
    poor = whole.replace(
        rows=rows.replace(used=500, batches_of_one=20), loss=(LossPoint(step=1, loss=0.0, learning_rate=0.1),)
    )
    found = list(list_poor_training([one.replace(training=poor) for one in records]))
    assert [(one.title, one.text) for one in found] == [
        ("rows unused", "500 of 1000 rows are in none of the 100 batches of an epoch"),
        ("batches of one row", "20 of 100 batches"),
        ("loss of 0", "at every step: nothing was learned"),
    ]


def test_what_a_recipe_did_besides_is_said_once(records: list[Record]) -> None:
    assert "found negatives" not in read_paragraphs(records)
    assert records[0].training is not None
    training = records[0].training.replace(
        adapter=AdapterLog(peft="1", trained=12345, weights_sha256="0" * 64),
        selected=SelectionLog(on="a/dev", measure="mrr@10", step=2, value=0.5),
    )
    mining = MiningLog(model="miner", given_rows=20, mined_rows=18)
    said = read_paragraphs([one.replace(mining=mining, training=training) for one in records])
    assert said.count("miner found negatives for 18 of 20 rows; the others were not trained on.") == 1
    assert said.count("an adapter of 12,345 numbers was trained and merged.") == 1
    # Each seed chooses for itself.
    assert said.count(f"the weights of step 2 of {training.steps} were kept, by mrr@10 0.5000 on a/dev.") == 3


def test_seconds_of_a_shared_machine_say_so(records: list[Record]) -> None:
    assert "at once" not in read_paragraphs(records)
    assert "again" not in read_paragraphs(records)
    alone = SHARED.replace(trials_on_machine=1, attempts=2)
    said = read_paragraphs([records[0], records[1].replace(execution=SHARED), records[2].replace(execution=alone)])
    assert "Up to 3 trials ran on one machine at once" in said
    assert f"also the others': {records[1].trial.id}." in said
    assert f"Begun again after a worker was lost: {records[2].trial.id}." in said
    assert "the others': all." in read_paragraphs([record.replace(execution=SHARED) for record in records])
