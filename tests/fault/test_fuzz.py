"""Whatever stands in a manifest, record, run or qrels file: it is read, or refused with an error of ours."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.experiment.manifest import read_experiment
from harness.records.record import read_record, write_record
from harness.records.run import read_run
from harness.records.trec import read_qrels
from tests.fault.conftest import Faults
from tests.support.manifests import TINY, parse
from tests.support.records import make_record

INPUTS = int(os.environ.get("HARNESS_FUZZ", "1000"))
ALWAYS = settings(
    max_examples=INPUTS,
    # The same inputs every time in CI; asked for by number, new ones, which a failure prints.
    derandomize="HARNESS_FUZZ" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
# What readers of text and numbers stumble over.
TOKENS = (
    *(
        "nan",
        "-inf",
        "inf",
        "1e999",
        "-0",
        "0x10",
        "1_0",
        "00",
        "9" * 30,
        "null",
        "true",
        "NaN",
        "Infinity",
        "[]",
        "{}",
    ),
    *(
        '""',
        "'",
        "\\",
        "\\u0000",
        "\\ud800",
        "=",
        "[[",
        "]]",
        '"""',
        "#",
        "1979-05-27",
        "1979-05-27T07:32:00Z",
        "\ufeff",
    ),
    *("\u2028", "\xa0", "\0", "\t", "\r\n", "\n", "é", "🧬", "..", "../", "/", ":", ",", ";", "@0", "@1000", "\x1b"),
)
RUN = "".join(f"q{query} Q0 p{rank} {rank} {1 - rank / 10} tag\n" for query in range(3) for rank in range(1, 6))
QRELS = "".join(f"q{query} 0 p{passage} {passage % 2}\n" for query in range(4) for passage in range(3))


def write_valid_record(folder: Path) -> str:
    record = make_record({"mrr@10": [0.5, 1.0], "map@100": [0.25, 1.0]}, experiment=parse(), model="small", seed=0)
    return write_record(record, folder).read_text(encoding="utf-8")


def mutate(text: str) -> st.SearchStrategy[bytes]:
    """Draw files that were right once: with bytes changed, and parts moved, doubled, dropped or replaced."""
    content = text.encode()
    return st.integers(0, 2**63).map(lambda seed: _mutate(content, random.Random(seed)))


def _mutate(content: bytes, generator: random.Random) -> bytes:
    for _ in range(generator.randint(1, 4)):
        size = len(content)
        start, stop = sorted((generator.randrange(size + 1), generator.randrange(size + 1)))
        stop = min(stop, start + generator.choice((0, 1, 4, 40)))
        token = generator.choice(TOKENS).encode("utf-8", "surrogatepass")
        match generator.randrange(6):
            case 0:
                content = content[:start] + generator.randbytes(generator.randint(1, 3)) + content[stop:]
            case 1:
                content = content[:start] + content[stop:]
            case 2:
                content = content[:start] + content[start:stop] * 2 + content[stop:]
            case 3:
                content = content[:start] + token + content[stop:]
            case 4:
                content = content[:start] + token * generator.choice((1, 3, 2000)) + content[start:]
            case _:
                content = _replace_word(content, token, generator)
    return content


def _replace_word(content: bytes, token: bytes, generator: random.Random) -> bytes:
    """Put a token in the place of a whole word, so that the rest is still understood."""
    words = content.split(b" ")
    words[generator.randrange(len(words))] = token
    return b" ".join(words)


def files(text: str) -> st.SearchStrategy[bytes]:
    return st.one_of(mutate(text), mutate(text), mutate(text), st.binary(max_size=300), st.text().map(_encode))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def fuzz(kind: str, text: str, path: Path, read: Callable[[Path], object], faults: Faults) -> None:
    """Read many files, each of which must be read or refused by name."""
    tried = 0

    @ALWAYS
    @given(files(text))
    def check(content: bytes) -> None:
        nonlocal tried
        tried += 1
        path.write_bytes(content)
        assert _refusal(read, path) in {"", path.name}

    path.write_text(text, encoding="utf-8")
    read(path)
    check()
    assert tried >= INPUTS
    with faults.commit(f"random {kind}", INPUTS):
        pass


def _refusal(read: Callable[[Path], object], path: Path) -> str:
    """Return nothing where a file is read, its name where it is refused by name."""
    try:
        read(path)
    except HarnessError as error:
        return path.name if path.name in str(error) else str(error)
    return ""


# A price of a GPU that nobody has seen is taken, and said.
@pytest.mark.filterwarnings("ignore:.*no GPU called:UserWarning")
def test_any_manifest_is_read_or_refused(tmp_path: Path, faults: Faults) -> None:
    fuzz("manifest", TINY, tmp_path / "tiny.toml", read_experiment, faults)


def test_any_record_is_read_or_refused(tmp_path: Path, faults: Faults) -> None:
    fuzz("record", write_valid_record(tmp_path / "valid"), tmp_path / "input.json", read_record, faults)


def test_any_run_is_read_or_refused(tmp_path: Path, faults: Faults) -> None:
    fuzz("run", RUN, tmp_path / "input.trec", read_run, faults)


def test_any_qrels_are_read_or_refused(tmp_path: Path, faults: Faults) -> None:
    fuzz("qrels", QRELS, tmp_path / "input.qrels", read_qrels, faults)
