"""search.html: a search as one page that needs nothing else: tables and plots are inside it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from importlib.metadata import version
from pathlib import Path

from explore import answer_plots, answer_report
from explore.answer import Answer
from sim import html

TITLES = {
    "front": "The front",
    "parallel": "The designs of the front",
    "tornado": "What moves the best design",
    "hypervolume": "How the front grew",
}
STYLE = (
    "td, th { padding: 0.15em 0.8em 0.15em 0; text-align: right } td:first-child, th:first-child { text-align: left }"
)
STYLE += " td:first-child { white-space: normal } .wide { overflow-x: auto }"
STYLE += " main { max-width: 92em; margin: 2em auto; padding: 0 1em } svg { max-width: 100%; height: auto }"


def page(found: Answer) -> str:
    """The whole page."""
    s = found.search.scenario
    text = answer_report.search_text(found)
    head, _, rest = text.partition("\n\n")
    parts = [f"<h1>{escape(s.name)}</h1>", *(f"<p>{escape(line)}</p>" for line in head.splitlines())]
    if len(found.front):
        parts += [_table("The front, as differences from the baseline", *answer_report.front_rows(found))]
        if (sure := answer_report.sure_rows(found))[1]:
            parts += [_table("How sure it is", *sure)]
        parts += [_table("Where the workloads are bound", *answer_report.bound_rows(found))]
        parts += [_table("What moves the best designs", *answer_report.around_rows(found))]
    for name, draw in answer_plots.plots(found).items():
        parts.append(f"<h2>{TITLES[name]}</h2>\n<figure>{_svg(name, partial(draw, found))}</figure>")
    parts.append(f"<h2>As text</h2>\n<pre>{escape(rest)}</pre>")
    parts.append(f"<h2>Scenario</h2>\n<pre>{escape(s.resolved())}</pre>")
    style = (html.STATIC / "report.css").read_text(encoding="utf-8") + STYLE
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(s.name)}</title>\n'
        f'<meta name="generator" content="framecast {version("framecast")}">\n<style>{style}</style>\n</head>\n'
        f"<body>\n<main>\n{chr(10).join(parts)}\n</main>\n</body>\n</html>\n"
    )


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "\n".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    table = f"<table><thead><tr>{top}</tr></thead>\n<tbody>{cells}</tbody></table>"
    return f'<h2>{escape(title)}</h2>\n<div class="wide">{table}</div>'


def _svg(name: str, draw: Callable[[Path], None]) -> str:
    """A plot as markup; identifiers are told apart by the plot's name, since one page holds several."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plot.svg"
        draw(path)
        text = path.read_text(encoding="utf-8")
    text = text[text.index("<svg") :]
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
