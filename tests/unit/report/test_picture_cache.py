"""A picture is drawn again exactly where what it shows, the code or its file changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.report.document import ChangeChart, Picture
from harness.report.picture_cache import CACHE_FILE, PictureCache

PICTURE = Picture("p", "caption", ChangeChart("mrr@10", (0.5, -0.25), 1, 0, 1))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Picture]:
    """What is drawn from here on."""
    found: list[Picture] = []

    def draw(picture: Picture) -> str:
        found.append(picture)
        return f"<svg>{picture!r}</svg>"

    monkeypatch.setattr("harness.report.picture_cache.draw_picture", draw)
    return found


def write(folder: Path, picture: Picture = PICTURE) -> str:
    cache = PictureCache(folder)
    content = cache.draw("p.svg", picture)
    (folder / "p.svg").write_text(content, encoding="utf-8")
    cache.save()
    return content


def test_what_did_not_change_is_drawn_once(tmp_path: Path, drawn: list[Picture]) -> None:
    assert write(tmp_path) == write(tmp_path)
    assert len(drawn) == 1


def test_another_chart_or_caption_is_drawn_again(tmp_path: Path, drawn: list[Picture]) -> None:
    write(tmp_path)
    assert "other" in write(tmp_path, replace(PICTURE, caption="other"))
    write(tmp_path, replace(PICTURE, chart=ChangeChart("mrr@10", (0.5, -0.5), 1, 0, 1)))
    assert len(drawn) == 3


def test_an_edited_or_lost_file_is_drawn_again(tmp_path: Path, drawn: list[Picture]) -> None:
    content = write(tmp_path)
    (tmp_path / "p.svg").write_text("edited", encoding="utf-8")
    assert write(tmp_path) == content
    (tmp_path / "p.svg").unlink()
    assert write(tmp_path) == content
    assert len(drawn) == 3


@pytest.mark.parametrize("text", ["", "[]", "{", '{"p.svg": 1}', '{"p.svg": []}', '{"p.svg": [1, 2]}'])
def test_a_broken_note_costs_time_only(tmp_path: Path, drawn: list[Picture], text: str) -> None:
    content = write(tmp_path)
    (tmp_path / CACHE_FILE).write_text(text, encoding="utf-8")
    assert write(tmp_path) == content
    assert len(drawn) == 2


def test_other_drawing_code_draws_again(tmp_path: Path, drawn: list[Picture], monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    monkeypatch.setattr("harness.report.picture_cache.version", lambda _: "9.9")
    write(tmp_path)
    assert len(drawn) == 2
