"""What the Hub checks in a card's metadata before it takes a commit of README.md."""

from __future__ import annotations

import re
from typing import Any

import yaml  # type: ignore[import-untyped] # its stubs are no dependency of ours

_METADATA = re.compile(r"\A---\s*\n(.*?)\n---\s*(\n|\Z)", re.DOTALL)


def card_errors(content: str) -> list[str]:
    """List what is wrong with the YAML head of a card: its syntax, and the shape of `model-index`.

    The shape is that of https://huggingface.co/docs/hub/model-cards (evaluation results).
    """
    found = _METADATA.match(content)
    if found is None:
        return []
    try:
        metadata = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        return [f"YAML: {error}"]
    if not isinstance(metadata, dict):
        return [f"metadata is {metadata!r}, expected a mapping"]
    errors: list[str] = []
    for place, model in _items(metadata.get("model-index", []), "model-index", errors):
        _need(model, "name", place, errors)
        for result_place, result in _items(model.get("results"), f"{place}.results", errors):
            _need(result.get("task"), "type", f"{result_place}.task", errors)
            for key in ("name", "type"):
                _need(result.get("dataset"), key, f"{result_place}.dataset", errors)
            for metric_place, metric in _items(result.get("metrics"), f"{result_place}.metrics", errors):
                for key in ("type", "value"):
                    _need(metric, key, metric_place, errors)
    return errors


def _items(value: Any, place: str, errors: list[str]) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(value, list):
        errors.append(f'"{place}" must be an array')
        return []
    errors.extend(f'"{place}[{i}]" must be an object' for i, item in enumerate(value) if not isinstance(item, dict))
    return [(f"{place}[{i}]", item) for i, item in enumerate(value) if isinstance(item, dict)]


def _need(value: Any, key: str, place: str, errors: list[str]) -> None:
    if not isinstance(value, dict) or value.get(key) is None:
        errors.append(f'"{place}.{key}" is required')
