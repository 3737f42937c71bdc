"""A measure is named FAMILY@K, in manifests, records and tables; this module alone knows the families."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.errors import ManifestError

FAMILIES = {"accuracy": "Success", "precision": "P", "recall": "R", "ndcg": "nDCG", "mrr": "RR", "map": "AP"}
"""Our name of a measure before the @ -> ir_measures' name."""

_NAME = re.compile(r"([a-z]+)@([1-9][0-9]{0,3})")


@dataclass(frozen=True)
class Measure:
    """One measure, such as mrr@10: the family `mrr` looking at the first `cutoff` passages."""

    family: str
    cutoff: int

    @property
    def name(self) -> str:
        """The name in manifests, records and tables."""
        return f"{self.family}@{self.cutoff}"


def parse_measure(name: str) -> Measure:
    """Understand a measure's name.

    Args:
        name: FAMILY@K, K from 1 to 9999.

    Returns:
        The measure.

    Raises:
        ManifestError: when the family is unknown or K is not such a number; lists what is known.
    """
    match = _NAME.fullmatch(name)
    if match is None or match[1] not in FAMILIES:
        known = ", ".join(f"{family}@K" for family in FAMILIES)
        raise ManifestError(f"unknown measure {name!r}, expected one of {known} with K from 1 to 9999")
    return Measure(match[1], int(match[2]))
