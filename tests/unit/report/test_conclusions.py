"""What may be concluded stands once: that nothing was published is no sentence of every recipe."""

from __future__ import annotations

from harness.analysis.verdict import judge
from harness.experiment.manifest import Experiment
from harness.records.record import Record
from harness.report.conclusions import list_conclusions
from tests.support.records import make_record, read_manifest, spread

NOTHING = "Nothing was published to compare with."


def make_records(experiment: Experiment) -> list[Record]:
    values = {"baseline": 0.6, "finetuned": 0.7, "sharp": 0.8}
    return [
        make_record(
            dict.fromkeys(experiment.evaluation.measures, spread(values[variant])),
            experiment=experiment,
            model=model.name,
            variant=variant,
            seed=seed,
        )
        for model in experiment.models
        for variant in ("baseline", *model.recipes)
        for seed in ((None,) if variant == "baseline" else (0, 1))
    ]


def test_that_nothing_was_published_is_said_once_for_all_recipes() -> None:
    experiment = read_manifest("hpo-scale", seeds=(0, 1))
    sentences = list_conclusions(judge(experiment, make_records(experiment), rounds=10))
    assert [text.startswith(f"{NOTHING} all-MiniLM-L6-v2/") for text in sentences] == [True, False]
    assert sentences[1].startswith("all-MiniLM-L6-v2/sharp: fine-tuning changes mrr@10 by +")


def test_beside_a_published_model_the_others_are_named() -> None:
    published = read_manifest("bioasq", seeds=(0, 1))
    (claim, *_) = [claim for claim in published.claims if claim.variant == "finetuned"]
    other = published.models[0].replace(name="other")
    experiment = published.model_copy(update={"models": (other, published.models[0]), "claims": (claim,)})
    sentences = list_conclusions(judge(experiment, make_records(experiment), rounds=10))
    said = [text for text in sentences if NOTHING in text]
    assert [text.removeprefix(f"{NOTHING} ").partition(":")[0] for text in said] == ["other"]
