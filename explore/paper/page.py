"""study.html: the claims and the figures as one page that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from importlib.metadata import version
from pathlib import Path
from string import Template

from explore.paper import rules, table
from explore.paper.answer import Answer, calibration_hash, scenarios_of
from explore.paper.drawing import svg
from explore.paper.report import ORDER, command, rows, summary
from explore.paper.tables import FIGURES, Table
from sim import html
from sim.report import number

HERE = Path(__file__).parent
SHORT = 48  # rows of a table that the page shows
# What a figure shows that its picture does not say.
NOTES = {
    "fig1": "The study's intensity divides all FLOPs of an inference by the bytes of the model, as if each "
    "weight were read once: weights that "
    "every denoising step reads again count once, and activations not at all. What kernels move is "
    "what the hollow marks divide by.",
    "fig2": "Attention has the linear layers of its modules as projections of its own. A component that works on many tokens at "
    "a time resembles the prefill of a language model, one that works on one at a time its decode: fig2_correspondence.",
    "fig4": "The matrices follow the fourth power of the side once self-attention outweighs "
    "cross-attention, whose share goes with the square.",
    "fig6": "Instructions and cycles are modelled: the assumptions, and what each does when it is varied, "
    "are rows of fig6_caches.csv.",
    "fig7": "FLOPs are exact: spatial F, temporal F squared, joint F squared times the square of the pixels. Times cross twice "
    "where temporal attention takes longer at a few frames already: each of its sequences fills a part of one block alone. "
    "The last crossing is drawn; fig7_crossover says how many there are.",
}


def page(found: Answer) -> str:
    """The whole page."""
    body = "\n".join(
        (
            _section("claims", "The claims", _claims(found)) if found.findings else "",
            *(_section(name, f"{name}: {FIGURES[name][0]}", _figure(found, name)) for name in found.figures),
            _section("rules", "The rules", f"<pre>{escape(str(rules.__doc__))}\n{escape(str(table.__doc__))}</pre>"),
            _section("scenarios", "The scenarios", _scenarios(found)),
        )
    )
    links = (
        [("claims", "Claims")] * bool(found.findings)
        + [(n, n) for n in found.figures]
        + [("rules", "Rules"), ("scenarios", "Scenarios")]
    )
    nav = "".join(f'<a href="#{anchor}">{escape(label)}</a>' for anchor, label in links)
    parts = {
        "version": version("framecast"),
        "style": "".join(
            path.read_text(encoding="utf-8") for path in (html.STATIC / "report.css", HERE / "page.css")
        ), "nav": nav,
        "summary": escape(summary(found)) if found.findings else "", "body": body,
    }  # fmt: skip
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(parts)


def _section(anchor: str, title: str, body: str) -> str:
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>\n{body}</section>'


def _claims(found: Answer) -> str:
    heads = "".join(f"<div>{head}</div>" for head in ("id", "claim", "study", "framecast", "interval", "verdict"))
    lines = [f'<div class="claim head">{heads}</div>']
    for row in rows(found):
        ends = "" if row["low"] is None else f"{number(row['low'])} .. {number(row['high'])}"
        cells = {"": row["id"], "what": row["claim"], "study": row["study"], "ours": row["framecast"], "ends": ends}
        said = "".join(f'<div class="{style}">{escape(str(value))}</div>' for style, value in cells.items())
        lines.append(
            f'<div class="claim" id="{row["id"]}">{said}<div class="verdict {row["verdict"]}">{row["verdict"]}</div>'
            f'<p class="why">{escape(row["reason"])} <code>{escape(row["command"])}</code></p></div>'
        )
    counts = found.counts()
    tiles = "".join(f"<div><dt>{v}</dt><dd>{counts[v]}</dd></div>" for v in ORDER)
    same = '<p class="quiet">The same rows: claims.csv; every number of ours with its scenarios: values.csv.</p>'
    return f'<dl class="figures">{tiles}</dl>\n{chr(10).join(lines)}{same}'


def _figure(found: Answer, name: str) -> str:
    picture = base64.b64encode(svg(name, tuple(found.figures[name]), source(found)).encode()).decode()
    of = ", ".join(scenarios_of(name, found.suite))
    files = ", ".join(f"figures/{t.name}.csv ({len(t.rows)} rows)" for t in found.figures[name])
    note = f"<p>{escape(NOTES[name])}</p>" if name in NOTES else ""
    image = f'<figure><img alt="{escape(FIGURES[name][0])}" src="data:image/svg+xml;base64,{picture}"></figure>'
    rows_ = f"Rows: {escape(files)}. Scenarios: {escape(of)}. Again: <code>{escape(command(name))}</code>"
    return f'{image}{note}{_tables(found.figures[name])}<p class="quiet">{rows_}</p>'


def _tables(tables: Sequence[Table]) -> str:
    """The short ones as they are, folded."""
    return "".join(
        f"<details><summary>{escape(t.name)}: {len(t.rows)} rows</summary>{_cells(t)}</details>"
        for t in tables
        if len(t.rows) <= SHORT
    )


def _cells(t: Table) -> str:
    heads = "".join(f"<th>{escape(c.replace('_', ' '))}</th>" for c in t.columns)
    lines = (
        f"<tr>{''.join(f'<td>{escape(number(c) if isinstance(c, float) else str(c))}</td>' for c in row)}</tr>"
        for row in t.rows
    )
    body = f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="scroll"><table class="small">{body}</table></div>'


def source(found: Answer) -> str:
    """In the corner of every figure."""
    return f"level {found.suite.level}, calibration {calibration_hash()}"


def _scenarios(found: Answer) -> str:
    lines = [
        f"<tr><td>{escape(m.scenario.name)}</td><td>{m.scenario.hash}</td>"
        f'<td class="words"><code>framecast run scenarios/{escape(m.scenario.name)}.yaml --set '
        f"software.attention=unfused</code></td></tr>"
        for m in found.suite.members()
    ]
    head = "<th>scenario</th><th>hash</th><th>unfused; without --set flash-2</th>"
    return f'<div class="scroll"><table class="small"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
