"""Pictures that need not be drawn again: drawing takes most of a report's time, and few charts change."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from harness.core.files import write_atomically
from harness.report import svg
from harness.report.document import Picture
from harness.report.svg import draw_picture

# Not published: whoever has only the pictures draws them again.
CACHE_FILE = ".drawn.json"


class PictureCache:
    """The pictures of a folder by what they were drawn from: chart, words, the drawing code and matplotlib.

    A file that is not the one that was drawn is drawn again. Who checks a folder must not ask this class.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._code = hashlib.sha256(Path(svg.__file__).read_bytes()).hexdigest() + version("matplotlib")
        self._known = _read(folder / CACHE_FILE)
        self._drawn: dict[str, list[str]] = {}

    def draw(self, file: str, picture: Picture) -> str:
        """Return a picture's SVG: what the file holds where that was drawn from the same, else drawn anew."""
        source = hashlib.sha256(f"{self._code}{picture!r}".encode()).hexdigest()
        path = self._folder / file
        found = path.read_bytes() if self._known.get(file, [""])[0] == source and path.is_file() else None
        if found is not None and self._known[file] == [source, hashlib.sha256(found).hexdigest()]:
            content = found.decode()
        else:
            content = draw_picture(picture)
        self._drawn[file] = [source, hashlib.sha256(content.encode()).hexdigest()]
        return content

    def save(self) -> None:
        """Note what was drawn, for the next time.

        Raises:
            OSError: the disk refuses.
        """
        write_atomically(self._folder / CACHE_FILE, json.dumps(self._drawn, indent=1, sort_keys=True).encode())


def _read(path: Path) -> dict[str, list[str]]:
    """Return what was noted; a note that cannot be read costs time only."""
    try:
        known = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {name: entry for name, entry in known.items() if isinstance(entry, list) and entry}
