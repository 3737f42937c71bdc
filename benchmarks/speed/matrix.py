"""The whole matrix, models by seeds: the plain script looped, against one run of the harness under pytest."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.speed.workbench import EXPERIMENTS, REBUILT, Workbench, find_manifest, find_model, run_module
from harness.analysis.equivalence import EQUIVALENCE_LEVEL
from harness.analysis.seeds import mean_interval
from harness.experiment.lock import SourceName, format_lock, list_sources
from harness.experiment.manifest import read_experiment
from harness.records.record import read_records
from harness.sources.fetch import Fetcher
from harness.sources.locking import make_lock

NAME = "matrix"


def measure_matrix(models: Sequence[str], bench: Workbench, *, seeds: int, pairs: int, passages: int) -> dict[str, Any]:
    """Run every model with every seed both ways, on a cut of the data, and judge whether the models are as good.

    Returns:
        Seconds of both ways, the values of each model and seed, and the interval of their differences by seed.
    """
    folder = bench.scratch / NAME
    folder.mkdir()
    cut_data(bench.data, folder / "data", pairs=pairs, passages=passages)
    manifest = write_manifest(models, bench, folder, seeds=seeds)
    # Sources are unpacked before either starts: the plain script is handed folders too.
    folders = {name: find_model(name, bench)[1] for name in models}
    store, results = folder / "store", folder / "results"
    store.mkdir()
    (store / "sources").symlink_to((bench.store / "sources").resolve(), target_is_directory=True)
    # Named, since a folder in the environment would go before the manifest's.
    command = [
        "pytest",
        "benchmarks/test_reproduce.py",
        f"--harness-experiment={manifest}",
        f"--harness-data-dir={folder / 'data'}",
        f"--harness-store={store}",
        f"--harness-results={results}",
    ]
    # Before the plain script, which takes the longer: what goes wrong here shall do so at once.
    whole = run_module(*command, "--benchmark-disable-gc", "-q")
    print(f"matrix: harness: {whole.seconds:.0f} s", flush=True)
    plain: dict[str, list[dict[str, Any]]] = {name: [] for name in models}
    plain_seconds = 0.0
    for name in models:
        for seed in range(seeds):
            done = run_module("benchmarks.plain_recipe", str(folders[name]), str(folder / "data"), "--seed", str(seed))
            plain_seconds += done.seconds
            plain[name].append(done.result)
            print(f"matrix: plain: {name}, seed {seed}: {done.seconds:.0f} s", flush=True)
    records = read_records(results / "records" / NAME)
    experiment = read_experiment(manifest)
    primary, margin = experiment.evaluation.primary, experiment.verdicts.margin
    rows = []
    for name in models:
        tuned = [one for one in records if one.trial.model == name and one.trial.variant == "finetuned"]
        ours = [one.values[primary] for one in sorted(tuned, key=lambda one: one.trial.seed or 0)]
        theirs = [result["values_after"][primary] for result in plain[name]]
        # By seed, so that what a seed decides for both is no difference.
        differences = [one - other for one, other in zip(ours, theirs, strict=True)]
        interval = mean_interval(differences, EQUIVALENCE_LEVEL) if len(differences) > 1 else None
        rows.append(
            {
                "model": name,
                "plain": theirs,
                "harness": ours,
                "interval": None if interval is None else [interval.low, interval.high],
                "precision": sorted({one.training.precision for one in tuned if one.training}),
                "training_peak_memory_bytes": max(one.stages["train"].peak_memory_bytes for one in tuned),
                "plain_peak_memory_bytes": max(result["peak_memory_bytes"] for result in plain[name]),
            }
        )
    return {
        "models": rows,
        "measure": primary,
        "margin": margin,
        "seeds": seeds,
        "pairs": pairs,
        "passages": passages,
        "plain_seconds": plain_seconds,
        "harness_seconds": whole.seconds,
    }


def cut_data(prepared: Path, folder: Path, *, pairs: int, passages: int) -> None:
    """Write the first training pairs and test rows; the corpus is the positives of both."""
    folder.mkdir()
    for name, count in (("train.jsonl", pairs), ("test.jsonl", passages)):
        with (prepared / name).open(encoding="utf-8") as lines:
            (folder / name).write_text("".join(islice(lines, count)), encoding="utf-8")


def write_manifest(models: Sequence[str], bench: Workbench, folder: Path, *, seeds: int) -> Path:
    """Write an experiment that fine-tunes all models by the rebuilt experiment's recipe, and its lock."""
    base = tomllib.loads((EXPERIMENTS / f"{REBUILT}.toml").read_text(encoding="utf-8"))
    kept = {key: base[key] for key in ("schema_version", "evaluation", "verdicts")}
    rows = {
        name: len((folder / "data" / f"{name}.jsonl").read_text("utf-8").splitlines()) for name in ("train", "test")
    }
    experiment = {
        **kept,
        "name": NAME,
        "title": "Speed of the whole matrix",
        "summary": "A cut of the data, to measure speed by.",
        "seeds": list(range(seeds)),
        "data": {
            REBUILT: {
                "splits": {"train": "train", "test": "test"},
                "columns": {"query": "anchor", "passage": "positive", "id": "id"},
                "expect": {f"{name}_rows": count for name, count in rows.items()},
                "source": {"kind": "folder", "path": "data"},
            },
        },
        "recipes": {"finetuned": base["recipes"]["finetuned"]},
        "models": [
            {
                "name": name,
                "recipes": ["finetuned"],
                "source": list_sources(find_manifest(name)[1])[SourceName.of("model", name)].model_dump(),
            }
            for name in models
        ],
    }
    manifest = folder / f"{NAME}.toml"
    lines = [f"{key} = {format_toml(value)}" for key, value in experiment.items()]
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    lock = make_lock(read_experiment(manifest), Fetcher(base=folder, cache=bench.store / "sources"))
    manifest.with_suffix(".lock").write_text(format_lock(lock), encoding="utf-8")
    return manifest


def format_toml(value: object) -> str:
    """Write plain data as a TOML value on one line; what is None is left out."""
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {format_toml(one)}' for key, one in value.items() if one is not None) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(format_toml, value)) + "]"
    # Strings, numbers and booleans are written alike in JSON and TOML.
    return json.dumps(value)
