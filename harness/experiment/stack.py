"""A stack is the set of packages that a result was published with, pinned so that it can be installed again."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator

from harness.core.schema import Frozen

PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)")
# What the script that runs in it imports first.
REQUIRED = ("torch", "sentence-transformers", "transformers")


class Stack(Frozen):
    """Python and packages of another environment that a recipe can be run in."""

    python: Annotated[str, Field(pattern=r"^3\.[0-9]{1,2}$")]
    packages: Annotated[tuple[str, ...], Field(min_length=1)]

    @field_validator("packages")
    @classmethod
    def _pinned(cls, packages: tuple[str, ...]) -> tuple[str, ...]:
        names = []
        for package in packages:
            pin = PIN.fullmatch(package)
            if pin is None:
                raise ValueError(f"{package!r}: expected one version of one package, as 'torch==2.1.2'")
            names.append(re.sub(r"[._-]+", "-", pin[1]).lower())
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} is listed twice")
        missing = [name for name in REQUIRED if name not in names]
        if missing:
            raise ValueError(f"{', '.join(missing)} must be pinned: the results depend on them first of all")
        return packages
