"""Event files are TensorBoard's logs; before others see them, the texts in them go, which name this machine's paths."""

from __future__ import annotations

import struct
from collections.abc import Iterator

# Each record: length, its checksum, the event, its checksum. Taking out whole records leaves the others valid.
HEADER, CHECKSUM_BYTES = struct.Struct("<QI"), 4
# In the tag of every text that the trainer logs: its arguments, with the output folder, and the model's config.
TEXT_MARK = b"/text_summary"


def drop_texts(content: bytes) -> bytes:
    """Return an event file without its texts, and without a last record that was cut off by a kill."""
    return b"".join(record for record in _split(content) if TEXT_MARK not in record)


def _split(content: bytes) -> Iterator[bytes]:
    start = 0
    while start + HEADER.size <= len(content):
        (length, _) = HEADER.unpack_from(content, start)
        end = start + HEADER.size + length + CHECKSUM_BYTES
        if end > len(content):
            return
        yield content[start:end]
        start = end
