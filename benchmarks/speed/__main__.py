"""Measures the harness against the plain recipe: fresh processes, alternating, the same data, in one run.

    python -m benchmarks.speed [--parts steps,profile,corpora,matrix,startup,cluster] [--rounds 3] ...   measure, write
    python -m benchmarks.speed --check                                                  compare the table only
    python -m benchmarks.speed --device cuda                                            on a GPU, offline, in 8 minutes

Writes results/records/speed.json, in which every machine that was measured on has its place, and, from it alone,
results/speed.md. With a device, made-up models and texts do, and build/speed-cuda.json and .md are written instead.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.speed.cluster import measure_cluster
from benchmarks.speed.corpora import measure_corpora
from benchmarks.speed.matrix import measure_matrix
from benchmarks.speed.on_device import DEVICE_TOLERANCE, FULL, TINY, measure_on_device, write_record
from benchmarks.speed.profiling import measure_profile
from benchmarks.speed.startup import measure_startup
from benchmarks.speed.steps import measure_steps
from benchmarks.speed.table import TOLERANCE, render
from benchmarks.speed.workbench import ROOT, Workbench, open_workbench
from harness.core.files import write_atomically
from harness.core.schema import format_json
from harness.models.device import describe_arithmetic
from harness.records.environment import collect_environment

RECORD = Path("records") / "speed.json"
TABLE = Path("speed.md")
PARTS = ("startup", "steps", "profile", "corpora", "matrix")
# Needs the extra `ray`, so it is measured where it is asked for.
EXTRA_PARTS = ("cluster",)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--results", type=Path, help="default: results, with --device build")
    parser.add_argument("--store", type=Path, default=ROOT / ".store")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("HARNESS_DATA_DIR"))
    parser.add_argument("--parts", default=",".join(PARTS), help="default: %(default)s")
    parser.add_argument("--models", default="all-MiniLM-L6-v2,all-mpnet-base-v2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=96, help="trained on in each round")
    parser.add_argument("--passages", type=int, default=300, help="evaluated in each round")
    parser.add_argument("--corpora", default="10000,100000,1000000", help="passages to rank")
    parser.add_argument("--queries", type=int, default=10_000, help="that passages are ranked for")
    parser.add_argument("--seeds", type=int, default=3, help="of the whole matrix")
    parser.add_argument("--matrix-pairs", type=int, default=256)
    parser.add_argument("--matrix-passages", type=int, default=300, help="test rows of the whole matrix")
    parser.add_argument("--cluster-seeds", type=int, default=12, help="of the experiment that runs on a cluster")
    parser.add_argument("--device", help="cuda, cuda:N or cpu: the run on a device, whose size is set")
    parser.add_argument("--precision", choices=["fp16", "bf16", "fp32"], help="of training with --device")
    parser.add_argument("--tiny", action="store_true", help="with --device, to try the run itself")
    parser.add_argument(
        "--check", action="store_true", help="measure nothing; fail where the table is not the record's"
    )
    options = parser.parse_args(arguments)
    if options.device is not None:
        return run_on_device(options)
    options.results = options.results or ROOT / "results"
    path = options.results / RECORD
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"schema_version": 2, "machines": {}}
    if options.check:
        return check(options.results, record)
    parts = options.parts.split(",")
    known = (*PARTS, *EXTRA_PARTS)
    if unknown := set(parts) - set(known):
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    with tempfile.TemporaryDirectory(prefix="harness-speed-") as scratch:
        bench = open_workbench(options.store, Path(scratch), options.data_dir)
        for part in (name for name in known if name in parts):
            note(record, part, measure(part, bench, options), bench)
            # After each part, so that a measurement cut short leaves what was measured.
            write_atomically(path, (format_json(record) + "\n").encode())
            write_atomically(options.results / TABLE, render(record).encode())
    print(render(record))
    # Times are reported, never asserted: machines differ. Values must not.
    return int(any(difference > TOLERANCE for difference in list_differences(record)))


def run_on_device(options: argparse.Namespace) -> int:
    folder = options.results or ROOT / "build"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="harness-speed-") as scratch:
        record = measure_on_device(
            options.device,
            options.models.split(","),
            Path(scratch),
            precision=options.precision,
            size=TINY if options.tiny else FULL,
        )
    table = write_record(record, folder)
    print(table.read_text(encoding="utf-8"))
    print(f"written: {table.with_suffix('.json')} and {table}")
    found = [*record["models"], record["search"]]
    return int(any(one["largest_difference"] > DEVICE_TOLERANCE for one in found))


def check(results: Path, record: dict[str, Any]) -> int:
    same = (results / TABLE).read_text(encoding="utf-8") == render(record)
    print(f"{results / TABLE}: {'as the record says' if same else 'is not what the record says'}")
    return int(not same)


def measure(part: str, bench: Workbench, options: argparse.Namespace) -> Any:
    models = options.models.split(",")
    if part == "startup":
        return measure_startup(rounds=options.rounds)
    if part == "steps":
        cut = {"rounds": options.rounds, "pairs": options.pairs, "passages": options.passages}
        return [measure_steps(name, bench, **cut) for name in models]
    if part == "profile":
        return measure_profile(models, bench, pairs=options.pairs, passages=options.passages)
    if part == "corpora":
        sizes = [int(size) for size in options.corpora.split(",")]
        return measure_corpora(bench.scratch, sizes=sizes, queries=options.queries, rounds=options.rounds)
    if part == "cluster":
        return measure_cluster(bench, seeds=options.cluster_seeds, rounds=options.rounds)
    return measure_matrix(
        models, bench, seeds=options.seeds, pairs=options.matrix_pairs, passages=options.matrix_passages
    )


def note(record: dict[str, Any], part: str, found: Any, bench: Workbench) -> None:
    """Put a part into the place of this machine, instead of what it had of that part."""
    environment = collect_environment(ROOT)
    machine = record["machines"].setdefault(environment.fingerprint, {"parts": {}})
    machine["environment"] = environment.model_dump(mode="json")
    machine["parts"][part] = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": environment.revision,
        "data": bench.origin,
        "threads": describe_arithmetic().threads,
        "found": found,
    }


def list_differences(record: dict[str, Any]) -> list[float]:
    rows: list[dict[str, Any]] = []
    for machine in record["machines"].values():
        parts = machine["parts"]
        rows += parts["steps"]["found"] if "steps" in parts else []
        rows += parts["corpora"]["found"]["sizes"] if "corpora" in parts else []
    return [row["largest_difference"] for row in rows]


if __name__ == "__main__":
    sys.exit(main())
