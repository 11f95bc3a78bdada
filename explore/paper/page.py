"""study.html: the claims and the figures as one page that needs nothing else."""

from __future__ import annotations

import base64
import tempfile
from html import escape
from importlib.metadata import version
from pathlib import Path
from string import Template

from explore.paper.answer import Answer
from explore.paper.drawing import draw
from explore.paper.report import ORDER, command, rows, summary
from explore.paper.rules import __doc__ as RULES
from explore.paper.table import CLAIMS
from explore.paper.tables import FIGURES
from sim import html
from sim.report import number

MORE = """
.verdict { font-weight: 650; } .agrees { color: var(--good); } .close { color: var(--near); } .disagrees { color: var(--bad); }
:root { --good: #00694e; --near: #8a5a00; --bad: #b03a00; }
@media (prefers-color-scheme: dark) { :root { --good: #4fd3a8; --near: #e9b44c; --bad: #ff8a5c; } }
td.words { white-space: normal; min-width: 12rem; text-align: left; } td.why { min-width: 24rem; font-size: .85rem; }
figure { margin: 14px 0; background: #ffffff; border-radius: 8px; padding: 8px; overflow-x: auto; }
figure img { display: block; width: 100%; min-width: 640px; height: auto; }
"""
# What a figure shows that its picture does not say.
NOTES = {
    "fig1": "The study's intensity divides all FLOPs of an inference by the bytes of the model, as if each weight were read once: weights that "
    "every denoising step reads again count once, and activations not at all. What kernels move is what the hollow marks divide by.",
    "fig4": "The matrices follow the fourth power of the side once self-attention outweighs cross-attention, whose share goes with the square.",
    "fig6": "Instructions and cycles are modelled: the assumptions, and what each does when it is varied, are rows of fig6_caches.csv.",
    "fig7": "FLOPs are exact: spatial F, temporal F squared, joint F squared times the square of the pixels.",
}


def page(found: Answer) -> str:
    """The whole page."""
    body = "\n".join(
        (
            _section("claims", "The claims", _claims(found)) if found.findings else "",
            *(_section(name, f"{name}: {FIGURES[name][0]}", _figure(found, name)) for name in found.figures),
            _section("rules", "The rules", f"<pre>{escape(str(RULES))}</pre>"),
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
        "version": version("framecast"), "style": (html.STATIC / "report.css").read_text(encoding="utf-8") + MORE, "nav": nav,
        "summary": escape(summary(found)) if found.findings else "", "body": body,
    }  # fmt: skip
    return Template((Path(__file__).parent / "page.html").read_text(encoding="utf-8")).substitute(parts)


def _section(anchor: str, title: str, body: str) -> str:
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>\n{body}</section>'


def _claims(found: Answer) -> str:
    heads = ("id", "claim", "study", "framecast", "interval", "verdict", "why, and how to check it")
    lines = []
    for row in rows(found):
        ends = "" if row["low"] is None else f"{number(row['low'])} .. {number(row['high'])}"
        cells = "".join(f'<td class="words">{escape(str(row[k]))}</td>' for k in ("claim", "study", "framecast"))
        lines.append(
            f'<tr id="{row["id"]}"><td>{row["id"]}</td>{cells}<td>{ends}</td><td class="verdict {row["verdict"]}">{row["verdict"]}</td>'
            f'<td class="words why">{escape(row["reason"])} <code>{escape(row["command"])}</code></td></tr>'
        )
    counts = found.counts()
    tiles = "".join(f"<div><dt>{v}</dt><dd>{counts[v]}</dd></div>" for v in ORDER)
    head = "".join(f'<th class="left">{h}</th>' for h in heads)
    table = f'<div class="scroll"><table class="small"><thead><tr>{head}</tr></thead><tbody>\n{chr(10).join(lines)}\n</tbody></table></div>'
    return f'<dl class="figures">{tiles}</dl>{table}<p class="quiet">The same rows: claims.csv.</p>'


def _figure(found: Answer, name: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.svg"
        draw(name, found.figures[name], source(found), path)
        picture = base64.b64encode(path.read_bytes()).decode()
    files = ", ".join(f"figures/{t.name}.csv ({len(t.rows)} rows)" for t in found.figures[name])
    note = f"<p>{escape(NOTES[name])}</p>" if name in NOTES else ""
    image = f'<figure><img alt="{escape(FIGURES[name][0])}" src="data:image/svg+xml;base64,{picture}"></figure>'
    return f'{image}{note}<p class="quiet">Rows: {escape(files)}. Again: <code>{escape(command(name))}</code></p>'


def source(found: Answer) -> str:
    """In the corner of every figure."""
    from explore.paper.answer import calibration_hash

    return f"level {found.suite.level}, calibration {calibration_hash()}"


def _scenarios(found: Answer) -> str:
    lines = [
        f"<tr><td>{escape(m.scenario.name)}</td><td>{m.scenario.hash}</td>"
        f'<td class="words"><code>framecast run scenarios/{escape(m.scenario.name)}.yaml --set software.attention=unfused</code></td></tr>'
        for m in found.suite.members()
    ]
    head = "<th>scenario</th><th>hash</th><th>unfused; without --set flash-2</th>"
    return f'<div class="scroll"><table class="small"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


__all__ = ["CLAIMS", "page", "source"]
