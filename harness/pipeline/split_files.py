"""Which files of a source are a split: by its README's configs, by the files' names, or by the file that is named."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from harness.core.schema import read_text
from harness.core.text import clip, quote
from harness.errors import DataError
from harness.pipeline.tables import find_kind

README = "README.md"
README_LIMIT_BYTES = 1_000_000
# Of its YAML, which takes seconds to parse where there is more.
FRONT_MATTER_LIMIT_CHARACTERS = 256 * 1024
SHOWN_CHARACTERS = 120
SHOWN_FILES = 5
# As `datasets` tells splits by names of files and folders, in its documentation "Structure your repository".
KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
SEPARATORS = re.compile(r"[-._ 0-9]+")
SHARD = re.compile(r"(?P<split>.+)-[0-9]{5}-of-[0-9]{5}")
NO_TABLES = frozenset({"config.json", "dataset_dict.json", "dataset_info.json", "dataset_infos.json"})
SLICE = re.compile(r"(?P<name>[^\[\]]+)(?:\[(?P<start>-?[0-9]{1,12}%?)?:(?P<stop>-?[0-9]{1,12}%?)?\])?")


@dataclass(frozen=True)
class Split:
    """A split as a manifest names it: ``train``, ``train[:80%]``, ``train[100:200]`` or ``data/train.csv``."""

    name: str
    start: str | None = None
    stop: str | None = None

    @classmethod
    def parse(cls, text: str) -> Split:
        """Read a split's name with its slice.

        Raises:
            DataError: it is none.
        """
        match = SLICE.fullmatch(text)
        if match is None:
            raise DataError(
                f"split {quote(text)}: expected a name, or a name with a slice such as train[:80%] or train[100:200]"
            )
        return cls(match["name"], match["start"], match["stop"])

    def cut(self, count: int) -> slice:
        """Return the rows meant, of so many; a percentage is rounded to the nearest row, as `datasets` does.

        Raises:
            DataError: there are not so many.
        """
        start, stop = (_place(bound, count) for bound in (self.start or "0", self.stop or str(count)))
        if not 0 <= start <= stop <= count:
            raise DataError(f"split {self.name}[{self.start or ''}:{self.stop or ''}]: there are {count} rows")
        return slice(start, stop)


def find_files(folder: Path, files: Collection[str], *, config: str | None, split: str | None) -> list[str]:
    """Return the tables of a split, in the order of their names, or in that of the README's patterns.

    Args:
        folder: the source's folder.
        files: the files in it that were hashed; no other is ever returned.
        config: a config of the README, or a folder that the tables lie in.
        split: a split's name without its slice, or one file's path; None means all tables.

    Raises:
        DataError: no file is meant, or files of several kinds are.
    """
    if split in _list_tables(files):
        return [str(split)]
    tables, splits = _tell_splits(folder, files, config)
    found = tables if split is None else splits.get(split, [])
    place = f"{folder}: config {quote(config)}, split {quote(split)}"
    if not found:
        there = ", ".join(splits) or "none"
        raise DataError(f"{place}: no file that is read holds it; splits: {there}; tables: {_name_files(tables)}")
    if len({find_kind(name) for name in found}) > 1:
        raise DataError(f"{place}: is in files of several kinds, {_name_files(found)}; name one of them as the split")
    return found


def list_splits(folder: Path, files: Collection[str], *, config: str | None) -> dict[str, list[str]]:
    """Return the splits that README or names tell, with their tables; arguments are those of `find_files`.

    Raises:
        DataError: there is no such config.
    """
    return _tell_splits(folder, files, config)[1]


def _list_tables(files: Collection[str]) -> list[str]:
    return [name for name in sorted(files) if find_kind(name) and PurePosixPath(name).name not in NO_TABLES]


def _tell_splits(folder: Path, files: Collection[str], config: str | None) -> tuple[list[str], dict[str, list[str]]]:
    """Return all tables of a config, also those that no split has, and those of each split."""
    tables = _list_tables(files)
    place = f"{folder}: config {quote(config)}"
    patterns = _read_patterns(folder, config) if README in files else None
    if patterns is not None:
        splits = {name: list(_match_all(some, tables, place)) for name, some in patterns.items()}
        return list(dict.fromkeys(name for some in splits.values() for name in some)), splits
    if config is not None:
        tables = [name for name in tables if config in PurePosixPath(name).parts[:-1]]
        if not tables:
            raise DataError(f"{place}: neither README.md nor a folder of the source names such a config")
    return tables, _find_by_names(tables)


def _find_by_names(tables: Sequence[str]) -> dict[str, list[str]]:
    """Tell splits by the names of files, then of folders; where none tells any, all are ``train``."""
    splits: dict[str, list[str]] = {}
    for name in tables:
        for split in _name_splits(name):
            splits.setdefault(split, []).append(name)
            break
    return splits or ({"train": list(tables)} if tables else {})


def _name_splits(name: str) -> Iterator[str]:
    *folders, file = PurePosixPath(name).parts
    stem = file.partition(".")[0]
    shard = SHARD.fullmatch(stem)
    if shard is not None:
        yield _normalise(shard["split"])
    for part in (stem, *reversed(folders)):
        words = SEPARATORS.split(part.lower())
        yield from (split for split, keywords in KEYWORDS.items() if any(word in keywords for word in words))


def _normalise(split: str) -> str:
    return next((name for name, keywords in KEYWORDS.items() if split in keywords), split)


def _read_patterns(folder: Path, config: str | None) -> dict[str, list[str]] | None:
    """Return the patterns of each split of a config, as the README's front matter has them; None where it has none.

    Nobody else reads them: `datasets` would follow one that leads out of the source, or to another repository.
    """
    place = folder / README
    configs = _read_front_matter(place).get("configs")
    if configs is None:
        return None
    if not isinstance(configs, list) or not all(isinstance(one, dict) for one in configs):
        raise DataError(f"{place}: configs: expected a list of configs")
    named = {_read_name(one.get("config_name", "default"), place): one for one in configs}
    chosen = config
    if chosen is None:
        default = [name for name, one in named.items() if name == "default" or one.get("default") == "true"]
        chosen = next(iter(named)) if len(named) == 1 else next(iter(default), None)
    if chosen is None or chosen not in named:
        there = clip(", ".join(named), SHOWN_CHARACTERS)
        said = "config is not set" if config is None else f"config {quote(config)}"
        raise DataError(f"{place}: {said}: expected one of its configs: {there}")
    one = named[chosen]
    found = list(_list_patterns(one.get("data_files"), f"{place}: config {quote(chosen)}"))
    if not found:
        raise DataError(f"{place}: config {quote(chosen)}: names no data_files")
    patterns: dict[str, list[str]] = {}
    for split, pattern in found:
        within = one.get("data_dir")
        whole = f"{within.rstrip('/')}/{pattern}" if isinstance(within, str) else pattern
        patterns.setdefault(split, []).append(_check_pattern(whole, f"{place}: config {quote(chosen)}"))
    return patterns


def _read_front_matter(place: Path) -> Mapping[str, Any]:
    import yaml  # type: ignore[import-untyped]  # noqa: PLC0415 - only where there is a README; it has no stubs

    text = read_text(place, limit_bytes=README_LIMIT_BYTES, error=DataError)
    match = re.match(r"---\r?\n(.*?)^---\s*$", text, flags=re.DOTALL | re.MULTILINE)
    if match is None:
        return {}
    if len(match[1]) > FRONT_MATTER_LIMIT_CHARACTERS:
        raise DataError(
            f"{place}: its YAML has {len(match[1])} characters, at most {FRONT_MATTER_LIMIT_CHARACTERS} are read; cut "
            "it down to the configs with their data_files"
        )
    try:
        # The loader that knows no types: every value is its text, and tags make nothing.
        value = yaml.load(match[1], Loader=yaml.BaseLoader)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError) as cause:
        raise DataError(f"{place}: broken YAML: {clip(' '.join(str(cause).split()), SHOWN_CHARACTERS)}") from cause
    return value if isinstance(value, dict) else {}


def _list_patterns(said: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield (split, pattern) of what a config says of its files, which the hub lets one say in five ways."""
    match said:
        case None | "":
            return
        case str():
            yield "train", said
        case dict():
            for split, some in said.items():
                yield from ((str(split), pattern) for pattern in _list_texts(some, place))
        case list():
            for one in said:
                if isinstance(one, dict):
                    split = _read_name(one.get("split"), place)
                    yield from ((split, pattern) for pattern in _list_texts(one.get("path"), place))
                else:
                    yield from (("train", pattern) for pattern in _list_texts(one, place))
        case _:
            _list_texts(said, place)


def _read_name(said: Any, place: object) -> str:
    """Take a name: of lists in lists that YAML's aliases repeat, to spell them out alone would take all memory."""
    if not isinstance(said, str):
        raise DataError(f"{place}: expected the name of a config or split as text, found {type(said).__name__}")
    return said


def _list_texts(said: Any, place: str) -> list[str]:
    some = said if isinstance(said, list) else [said]
    if not all(isinstance(one, str) for one in some):
        raise DataError(f"{place}: data_files: expected paths of files, found {type(said).__name__}")
    return some


def _check_pattern(pattern: str, place: str) -> str:
    """Refuse what is no path inside the source: nothing but its hashed files is read, and nobody shall think so."""
    path = PurePosixPath(pattern)
    if path.is_absolute() or ".." in path.parts or "\\" in pattern or ":" in pattern:
        raise DataError(f"{place}: data_files: {quote(pattern)} leads out of the source; only its own files are read")
    return path.as_posix()


def _match_all(patterns: Sequence[str], tables: Sequence[str], place: str) -> Iterator[str]:
    for pattern in patterns:
        parts = PurePosixPath(pattern).parts
        found = [name for name in tables if _matches(parts, PurePosixPath(name).parts)]
        if not found:
            raise DataError(f"{place}: README.md: {quote(pattern)} matches no table of the source that is read")
        yield from found


def _matches(pattern: Sequence[str], name: Sequence[str]) -> bool:
    """Match folder by folder: ``**`` stands for any number of folders, ``*`` stays inside one."""
    reached = {0}
    for part in pattern:
        if part == "**":
            reached = set(range(min(reached), len(name) + 1)) if reached else set()
        else:
            reached = {place + 1 for place in reached if place < len(name) and fnmatchcase(name[place], part)}
    return len(name) in reached


def _place(bound: str, count: int) -> int:
    if bound.endswith("%"):
        share = int(bound[:-1])
        return round((share if share >= 0 else 100 + share) * count / 100) if abs(share) <= 100 else -1  # noqa: PLR2004
    number = int(bound)
    return number if number >= 0 else count + number


def _name_files(names: Sequence[str]) -> str:
    shown = ", ".join(clip(name, SHOWN_CHARACTERS) for name in names[:SHOWN_FILES]) or "none"
    return shown if len(names) <= SHOWN_FILES else f"{shown}, ..."
