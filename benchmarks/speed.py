"""Measures the harness against the plain recipe: fresh processes, alternating, the same data, in one run.

    python -m benchmarks.speed [--rounds 3] [--pairs 128] [--passages 400] [--models NAME,..]   measure and write
    python -m benchmarks.speed --check                                                   compare the table only

Writes results/records/speed.json and, from it alone, results/speed.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tabulate import tabulate

from harness.dataset import load_rows, write_prepared
from harness.environment import collect_environment
from harness.experiment import read_experiment
from harness.lock import read_lock
from harness.material import FolderSource
from harness.record import write_atomically
from harness.schema import format_json
from harness.sources import fetch_source

ROOT = Path(__file__).parent.parent
EXPERIMENTS = ROOT / "benchmarks" / "experiments"
RECORD = Path("records") / "speed.json"
TABLE = Path("speed.md")
# Two models on the same data: the rebuilt one where it is at hand, else the embedded experiment's.
REBUILT, EMBEDDED = "bioasq-rebuilt", "hpo"
TOLERANCE = 1e-6


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--store", type=Path, default=ROOT / ".store")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("HARNESS_DATA_DIR"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=128)
    parser.add_argument("--passages", type=int, default=400)
    parser.add_argument("--models", default="all-MiniLM-L6-v2,all-mpnet-base-v2")
    parser.add_argument(
        "--check", action="store_true", help="measure nothing; fail where the table is not the record's"
    )
    options = parser.parse_args(arguments)
    if options.check:
        return check(options.results)
    record = measure(options)
    write_atomically(options.results / RECORD, (format_json(record) + "\n").encode())
    write_atomically(options.results / TABLE, render(record).encode())
    print(render(record))
    # Times are reported, never asserted: machines differ. Values must not.
    return int(any(model["largest_difference"] > TOLERANCE for model in record["models"]))


def check(results: Path) -> int:
    record = json.loads((results / RECORD).read_text(encoding="utf-8"))
    same = (results / TABLE).read_text(encoding="utf-8") == render(record)
    print(f"{results / TABLE}: {'as the record says' if same else 'is not what the record says'}")
    return int(not same)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        data, origin = prepare(options, Path(scratch))
        models = [measure_model(name, data, options) for name in options.models.split(",")]
    environment = collect_environment(ROOT)
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment.model_dump(mode="json"),
        "fingerprint": environment.fingerprint,
        "data": origin,
        "rounds": options.rounds,
        "pairs": options.pairs,
        "passages": options.passages,
        "models": models,
    }


def prepare(options: argparse.Namespace, folder: Path) -> tuple[Path, str]:
    base = read_experiment(EXPERIMENTS / f"{REBUILT}.toml")
    source = base.data.source
    there = options.data_dir or (EXPERIMENTS / source.path if isinstance(source, FolderSource) else EXPERIMENTS)
    folder_there = there.is_dir() and there != EXPERIMENTS
    name = REBUILT if folder_there else EMBEDDED
    path = EXPERIMENTS / f"{name}.toml"
    experiment = read_experiment(path)
    lock = read_lock(path.with_suffix(".lock"), experiment)
    fetched = fetch_source(
        experiment.data.source,
        lock.sources["data"],
        "data",
        cache=options.store / "sources",
        base=EXPERIMENTS,
        override=options.data_dir if name == REBUILT else None,
    )
    train, test = load_rows(fetched.folder, experiment.data, cache=folder / "cache")
    prepared = folder / "prepared"
    prepared.mkdir()
    write_prepared(prepared, train, test)
    return prepared, fetched.resolved.origin


def measure_model(name: str, data: Path, options: argparse.Namespace) -> dict[str, Any]:
    manifest, model = find_model(name, options)
    cut = ["--pairs", str(options.pairs), "--passages", str(options.passages)]
    commands = {
        "plain": ["benchmarks.plain_recipe", str(model), str(data), *cut],
        "harness": ["benchmarks.harness_recipe", str(manifest), str(model), str(data), *cut],
    }
    rounds: dict[str, list[dict[str, Any]]] = {"plain": [], "harness": []}
    limits = []
    for number in range(options.rounds):
        limits.append(run("benchmarks.arithmetic", str(model), str(data), *cut))
        # Whoever goes first changes, so that a slow drift of the machine favours neither.
        for kind in sorted(commands, reverse=bool(number % 2)):
            result = run(*commands[kind])
            rounds[kind].append(result)
            seconds = sum(result["step_seconds"][1:])
            print(
                f"{name} round {number + 1}: {kind}: {seconds:.1f} s training, {result['evaluate_seconds']:.1f} s "
                "evaluating",
                flush=True,
            )
    before = [rounds[kind][0]["values_before"] for kind in ("plain", "harness")]
    return {
        "model": name,
        "rounds": rounds,
        "limits": limits,
        "largest_difference": max(abs(before[0][measure] - value) for measure, value in before[1].items()),
    }


def find_model(name: str, options: argparse.Namespace) -> tuple[Path, Path]:
    for path in (EXPERIMENTS / f"{REBUILT}.toml", EXPERIMENTS / f"{EMBEDDED}.toml"):
        experiment = read_experiment(path)
        if name in {model.name for model in experiment.models}:
            lock = read_lock(path.with_suffix(".lock"), experiment)
            fetched = fetch_source(
                experiment.model(name).source,
                lock.sources[f"model:{name}"],
                "model",
                cache=options.store / "sources",
                base=EXPERIMENTS,
            )
            return path, fetched.folder
    raise SystemExit(f"no model {name!r} in the experiments {REBUILT} and {EMBEDDED}")


def run(*command: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def render(record: Mapping[str, Any]) -> str:
    """Write the table from the record alone."""
    environment = record["environment"]
    paragraphs = [
        "# Speed",
        (
            "The harness against [the plain recipe](../benchmarks/plain_recipe.py), fresh processes, alternating, on "
            f"the same data ({record['data']}): {record['rounds']} rounds of training on {record['pairs']} pairs in "
            f"batches of 32 and evaluating {record['passages']} passages. Medians over the rounds; in brackets the "
            "smallest and the largest. The first training step, which warms up, is left out on both sides."
        ),
        (
            f"Machine: {environment['cpu']}, {environment['cpu_count']} cores; torch "
            f"{environment['packages']['torch']}; measured {record['created'][:10]}."
        ),
    ]
    for model in record["models"]:
        paragraphs += [
            f"## {model['model']}",
            render_model(model),
            (
                f"Largest difference of any value before training: {model['largest_difference']:.1e} (at most "
                f"{TOLERANCE:.0e} is asked for)."
            ),
        ]
    paragraphs += [
        (
            "The limit is the arithmetic that the texts need without padding, at the rate of torch's own linear layer "
            "measured in the same round: bf16 for training (fp32 where the CPU has no bf16), fp32 for evaluating. What "
            "lies between is softmax, GELU, LayerNorm and dropout, which are bound by memory rather than by matrix "
            "products, the optimizer, and the tokenizer. Where more than 100 % is reached, the harness has its fp32 "
            "products done by oneDNN, which is faster here than torch's default."
        ),
        "Generated by `python3 -m nox -s speed` from `records/speed.json`; not edited by hand.",
    ]
    return "\n\n".join(paragraphs) + "\n"


def render_model(model: Mapping[str, Any]) -> str:
    rounds, limits = model["rounds"], model["limits"]
    rows = []
    for label, key, limit in (
        ("seconds per training step", "step", "training_step_seconds"),
        ("seconds to evaluate", "evaluate", "evaluate_seconds"),
        ("peak memory, GiB", "memory", None),
    ):
        plain, ours = ([pick(result, key) for result in rounds[kind]] for kind in ("plain", "harness"))
        ratios = [one / other for one, other in zip(plain, ours, strict=True)]
        floor = [found[limit] for found in limits] if limit else []
        share = f"{100 * statistics.median(floor) / statistics.median(ours):.0f} %" if floor else ""
        rows.append((label, spread(plain), spread(ours), f"{spread(ratios)} times", spread(floor), share))
    columns = ("", "plain", "harness", "ratio", "limit", "share of the limit")
    return tabulate(rows, headers=columns, tablefmt="pipe", disable_numparse=True)


def pick(result: Mapping[str, Any], key: str) -> float:
    if key == "step":
        return statistics.fmean(result["step_seconds"][1:])
    if key == "evaluate":
        return float(result["evaluate_seconds"])
    return float(result["peak_memory_bytes"]) / 2**30


def spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    sys.exit(main())
