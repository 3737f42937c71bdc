"""Core knows nothing of retrieval: strict parsing, files, archives and words.

What several rooms need and no domain word describes goes here: a base for parsed values, an atomic write, a way to
show a stranger's text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.door import open_door

if TYPE_CHECKING:
    from harness.core.archives import unpack as unpack
    from harness.core.files import hash_file as hash_file
    from harness.core.files import hash_tree as hash_tree
    from harness.core.files import write_atomically as write_atomically
    from harness.core.schema import Frozen as Frozen
    from harness.core.schema import decode_json as decode_json
    from harness.core.text import clip as clip
    from harness.core.text import format_seconds as format_seconds
    from harness.core.text import printable as printable

__getattr__, __dir__ = open_door(
    __name__,
    {
        "harness.core.schema": "Frozen decode_json",
        "harness.core.files": "hash_file hash_tree write_atomically",
        "harness.core.archives": "unpack",
        "harness.core.text": "clip printable format_seconds",
    },
)
