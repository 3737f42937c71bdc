"""Reports made by hand for the tests of the renderers: one plain, one from somebody who means harm."""

from __future__ import annotations

from harness.report.document import (
    Case,
    ChangeChart,
    Command,
    Example,
    Finding,
    Paragraph,
    Picture,
    Ranking,
    Report,
    Section,
    Table,
)

HARM = (
    "<script>alert(1)</script><img src=x onerror=alert(1)> \"'&amp; | [x](javascript:alert(1)) "
    "![y](https://evil.example/p.png) "
    "`code` **bold** @somebody www.evil.example https://evil.example\r\n# heading\n::error::done\n- item\x1b[31m\x00"
    "\u202e$x$ <!-- --> ]]> %0A"
)


def make_report(text: str = "plain", *, name: str = "demo") -> Report:
    """Return a report with every kind of block, all of whose free text is ``text``."""
    picture = Picture("changes-m", text, ChangeChart("mrr@10", (0.5, 0.0, -0.25), 1, 1, 1), mark=text)
    table = Table((text, "value", "verdict"), ((text, "0.5", text), (text, "0.25", "same")), title=text, mark=text)
    example = Example(text, text, text, (Ranking(text, text, (text, text)), Ranking(text, text, ())))
    return Report(
        name=name,
        title=text,
        lead=(text,),
        mark=text,
        verdicts=text,
        findings=(Finding("error", text, text, text), Finding("warning", text, text), Finding("notice", text, text)),
        sections=(
            Section(f"{text} one", (Paragraph(text), Command("harness report"), table, picture), brief=True),
            Section(f"{text} two", (example,)),
        ),
        cases=(Case(text, text, 1.5, ((text, text),), text), Case("trial", "fine", 0.5)),
    )
