"""Training steps and evaluation: the plain recipe, the harness and the arithmetic limit, alternating."""

from __future__ import annotations

from typing import Any

from benchmarks.speed.workbench import Workbench, find_model, run_module

# The same training without the algorithms that give the same bits every time: what those cost.
FREE = "harness, any algorithms"


def measure_steps(name: str, bench: Workbench, *, rounds: int, pairs: int, passages: int) -> dict[str, Any]:
    """Train and evaluate a cut of the data with one model.

    Returns:
        Each round's results of each way, the limits, and the largest difference of any value before training.
    """
    manifest, model = find_model(name, bench)
    cut = ["--pairs", str(pairs), "--passages", str(passages)]
    own = ["benchmarks.speed.harness_recipe", str(manifest), str(model), str(bench.data), *cut]
    commands = {
        "plain": ["benchmarks.plain_recipe", str(model), str(bench.data), *cut],
        "harness": own,
        FREE: [*own, "--any-algorithms"],
    }
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in commands}
    limits = []
    for number in range(rounds):
        limits.append(run_module("benchmarks.speed.arithmetic", str(model), str(bench.data), *cut).result)
        # Whoever goes first changes, so that a slow drift of the machine favours neither.
        for kind in sorted(commands, reverse=bool(number % 2)):
            result = run_module(*commands[kind]).result
            found[kind].append(result)
            seconds = sum(result["step_seconds"][1:])
            print(
                f"{name} round {number + 1}: {kind}: {seconds:.1f} s training, {result['evaluate_seconds']:.1f} s "
                "evaluating",
                flush=True,
            )
    plain, ours = (found[kind][0] for kind in ("plain", "harness"))
    return {
        "model": name,
        "pairs": pairs,
        "passages": passages,
        "rounds": found,
        "limits": limits,
        "largest_difference": max(
            abs(plain[values][measure] - value)
            for values in ("values_before", "values_prompted")
            for measure, value in ours[values].items()
        ),
    }
