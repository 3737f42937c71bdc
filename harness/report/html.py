"""HTML shows a report as one page that asks nobody for anything: style and pictures are inside, without scripts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape as escape_markup
from typing import assert_never

from harness.core.text import clip
from harness.report.document import Command, Example, Finding, Paragraph, Picture, Ranking, Report, Section, Table

SHOWN_CHARACTERS = 2000
TONES = {
    "same": "good",
    "close": "good",
    "reproduced": "good",
    "met": "good",
    "pass": "good",
    "better": "good",
    "exceeds": "odd",
    "inconclusive": "odd",
    "worse, within chance": "odd",
    "undecided": "odd",
    "different": "bad",
    "differs": "bad",
    "not reproduced": "bad",
    "not met": "bad",
    "regression": "bad",
    "not comparable": "odd",
}
# Last columns that a phone keeps in sight while the others scroll.
JUDGED = {"verdict", "threshold"}
STYLE = """
:root{color-scheme:light dark;--ground:#fff;--ink:#1f2328;--faint:#59636e;--line:#d8dee4;--band:#f6f8fa;--link:#0969da;
--good:#1a7f37;--odd:#9a6700;--bad:#cf222e}
@media(prefers-color-scheme:dark){:root{--ground:#0d1117;--ink:#e6edf3;--faint:#9198a1;--line:#30363d;--band:#161b22;
--link:#4493f8;--good:#3fb950;--odd:#d29922;--bad:#ff7b72}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif;overflow-wrap:break-word}
main{max-width:66rem;margin:0 auto;padding:1rem 1rem 4rem}
h1{font-size:1.6rem;line-height:1.25;margin:1rem 0 .5rem}
h2{font-size:1.25rem;margin:2.5rem 0 .5rem;padding-top:.75rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:1.5rem 0 .25rem}
p{margin:.5rem 0;max-width:48rem}
a{color:var(--link)}
nav{margin:1rem 0;font-size:.9rem}nav ul{margin:0;padding:0;list-style:none;display:flex;flex-wrap:wrap;gap:.25rem 1rem}
.mark{display:inline-block;margin:.25rem 0;padding:.1rem .6rem;border-left:4px solid var(--odd);background:var(--band)}
.caption,figcaption,footer{color:var(--faint);font-size:.875rem}
.findings{margin:1rem 0;padding:0;list-style:none}
.findings li{margin:.25rem 0;padding:.25rem .6rem;border-left:4px solid var(--line);background:var(--band);
font-size:.9rem}
.findings .error{border-color:var(--bad)}.findings .warning{border-color:var(--odd)}
.scroll{overflow-x:auto;margin:.75rem 0;max-width:100%}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums}
.caption{margin:1rem 0 -.5rem}
th,td{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th{font-weight:600;background:var(--band)}
td.long{min-width:14rem;overflow-wrap:anywhere}
.number{text-align:right;white-space:nowrap}
.good{color:var(--good)}.odd{color:var(--odd)}.bad{color:var(--bad)}.good,.odd,.bad{font-weight:600;white-space:nowrap}
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1rem;align-items:start}
figure{margin:.5rem 0;max-width:36rem}
figure img{display:block;width:100%;height:auto;border:1px solid var(--line);border-radius:6px}
pre{padding:.75rem;background:var(--band);border-radius:6px;overflow-x:auto;font-size:.875rem}
@media(max-width:40rem){table{font-size:.78rem}th,td{padding:.25rem .35rem}.spare{display:none}
.good,.odd,.bad{white-space:normal}th:first-child,td:first-child{position:sticky;left:0;background:var(--ground)}
.judged :is(th,td):last-child{position:sticky;right:0;background:var(--ground)}}
article{margin:1rem 0;padding:.5rem .9rem;border:1px solid var(--line);border-radius:6px}
article h3{margin:.25rem 0 .5rem}article dl{margin:0}article dt{color:var(--faint);font-size:.875rem;margin-top:.5rem}
article dd{margin:0}article ol{margin:.25rem 0 0;padding-left:1.5rem;font-size:.9rem}
"""


def render_html(report: Report, pictures: Mapping[str, str]) -> str:
    """Write a report as a whole HTML page; the same report gives the same bytes.

    Everything that comes from a record is escaped. The page's own policy allows the one style sheet, by its hash,
    and pictures that are inside; a browser will run no script in it and load nothing.

    Args:
        report: what to show.
        pictures: name -> SVG of each of the report's pictures.
    """
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    title = escape(report.title)
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="referrer" content="no-referrer">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>",
        f"<style>{STYLE}</style>",
        "</head>",
        "<body>",
        "<main>",
        f"<h1>{title}</h1>",
        *(f"<p>{escape(paragraph)}</p>" for paragraph in report.lead),
    ]
    if report.mark:
        parts.append(f'<p class="mark"><strong>{escape(report.mark)}</strong></p>')
    parts += _render_findings(report.findings)
    parts.append("<nav><ul>")
    parts += [f'<li><a href="#s{n}">{escape(s.heading)}</a></li>' for n, s in enumerate(report.sections, start=1)]
    parts.append("</ul></nav>")
    for number, section in enumerate(report.sections, start=1):
        parts += _render_section(section, number, pictures)
    parts += ["<footer><p>Generated from records; not edited by hand.</p></footer>", "</main>", "</body>", "</html>"]
    return "\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Make text harmless in HTML, in an element or a quoted attribute: no markup, no control characters, bounded."""
    text = clip(text, SHOWN_CHARACTERS)
    # Controls and marks that turn the reading direction round could show another text than there is.
    return escape_markup("".join(letter if letter.isprintable() else " " for letter in text), quote=True)


def _render_findings(findings: tuple[Finding, ...]) -> list[str]:
    if not findings:
        return []
    items = [
        f'<li class="{finding.level}"><strong>{escape(finding.title)}</strong>: {escape(finding.sentence)}</li>'
        for finding in findings
    ]
    return ['<ul class="findings">', *items, "</ul>"]


def _render_section(section: Section, number: int, pictures: Mapping[str, str]) -> list[str]:
    parts = [f'<section id="s{number}">', f"<h2>{escape(section.heading)}</h2>"]
    group: list[str] = []
    for block in section.blocks:
        if isinstance(block, Picture):
            group += _render_picture(block, pictures[block.name])
            continue
        if group:
            parts += ['<div class="pictures">', *group, "</div>"]
            group = []
        parts += _render_block(block)
    if group:
        parts += ['<div class="pictures">', *group, "</div>"]
    return [*parts, "</section>"]


def _render_block(block: Paragraph | Command | Table | Example) -> list[str]:
    match block:
        case Paragraph():
            return [f"<p>{escape(block.text)}</p>"]
        case Command():
            return [f"<pre><code>{escape(block.text)}</code></pre>"]
        case Table():
            return _render_table(block)
        case Example():
            return _render_example(block)
        case _:
            assert_never(block)


def _render_table(table: Table) -> list[str]:
    numeric = table.numeric
    parts = [f'<p class="caption">{escape(text)}</p>' for text in (table.title, table.mark) if text]
    judged = " judged" if table.columns[-1] in JUDGED else ""
    parts.append(f'<div class="scroll{judged}"><table>')
    heads = (
        f'<th{_name_class("number" if number else "", name in table.spare)} scope="col">{escape(name)}</th>'
        for name, number in zip(table.columns, numeric, strict=True)
    )
    parts.append(f"<thead><tr>{''.join(heads)}</tr></thead><tbody>")
    for row in table.rows:
        cells = (
            f"<td{_name_class(_choose_tone(cell, number=number), name in table.spare)}>{escape(cell)}</td>"
            for cell, number, name in zip(row, numeric, table.columns, strict=True)
        )
        parts.append(f"<tr>{''.join(cells)}</tr>")
    return [*parts, "</tbody></table></div>"]


def _choose_tone(cell: str, *, number: bool) -> str:
    if number:
        return "number"
    tone = TONES.get(cell.strip("()"), "")
    return tone or ("long" if len(cell) > 60 else "")  # noqa: PLR2004 - a cell that would stretch its table


def _name_class(name: str, spare: bool) -> str:  # noqa: FBT001 - local shorthand
    names = " ".join(part for part in (name, "spare" if spare else "") if part)
    return f' class="{names}"' if names else ""


def _render_picture(picture: Picture, svg: str) -> list[str]:
    data = base64.b64encode(svg.encode()).decode()
    mark = f"<br>{escape(picture.mark)}" if picture.mark else ""
    return [
        f'<figure><img alt="{escape(picture.caption)}" src="data:image/svg+xml;base64,{data}">',
        f"<figcaption>{escape(picture.caption)}{mark}</figcaption></figure>",
    ]


def _render_example(example: Example) -> list[str]:
    parts = [
        "<article>",
        f"<h3>{escape(example.question)}</h3>",
        "<dl>",
        f"<dt>expected (query {escape(example.query_id)})</dt><dd>{escape(example.expected)}</dd>",
    ]
    for ranking in example.rankings:
        parts += _render_ranking(ranking)
    return [*parts, "</dl>", "</article>"]


def _render_ranking(ranking: Ranking) -> list[str]:
    above = "".join(f"<li>{escape(text)}</li>" for text in ranking.above)
    listed = f"<ol>{above}</ol>" if above else ""
    return [f"<dt>{escape(ranking.label)}: {escape(ranking.standing)}</dt><dd>{listed}</dd>"]
