"""Steps that make a text longer are multiplied; those of usual tokenizers are few."""

from __future__ import annotations

from typing import Any

import pytest

from harness.models.tokenizer_limits import MOST_GROWTH, measure_growth


def replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


LLAMA = {
    "type": "Sequence",
    "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace({"String": " "}, "▁")],
}


@pytest.mark.parametrize(
    ("normalizer", "growth"),
    [
        (None, 1),
        ({"type": "BertNormalizer"}, 1),
        (LLAMA, 2),
        (replace({"String": "e"}, "e" * 1000), 1000),
        (replace({"String": "``"}, '"'), 1),
        (replace({"String": ""}, "x"), 2),
        (replace({"Regex": ""}, "xx"), 3),
        ({"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": [LLAMA, LLAMA]}]}, 4),
        ({"type": "Sequence", "normalizers": [{"type": "ByteLevel"}] * 10}, 1024),
        ([1, "x", {"type": "Replace"}], 1),
    ],
)
def test_growth_is_multiplied(normalizer: Any, growth: int) -> None:
    assert measure_growth({"normalizer": normalizer}) == growth
    assert measure_growth({"pre_tokenizer": normalizer, "normalizer": None}) == growth


def test_usual_tokenizers_are_far_below() -> None:
    assert measure_growth({"normalizer": LLAMA, "pre_tokenizer": {"type": "ByteLevel"}}) * 10 < MOST_GROWTH
    assert measure_growth([]) == 1
