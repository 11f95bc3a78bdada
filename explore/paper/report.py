"""The study as a table for a terminal, as claims.csv, as JSON."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from explore.paper.answer import Answer, calibration_hash
from explore.paper.finding import Finding
from sim.report import number

COLUMNS = ("id", "claim", "study", "framecast", "low", "high", "verdict", "reason", "command")
SCHEMA_VERSION = 1  # of the JSON
ORDER = ("agrees", "close", "disagrees", "cited", "open")
WIDE = 48  # letters of a column


def rows(found: Answer) -> list[dict[str, Any]]:
    """One row a claim, COLUMNS; low and high are empty where there is no interval."""
    return [_row(f) for f in found.findings]


def _row(f: Finding) -> dict[str, Any]:
    return {
        "id": f.claim.id, "claim": f.claim.title, "study": f.claim.study, "framecast": f.value, "low": f.low, "high": f.high,
        "verdict": f.verdict, "reason": why(f), "command": command(f.claim.id),
    }  # fmt: skip


def why(f: Finding) -> str:
    """What is compared, what came out beside it, what can be checked where it disagrees, and the verdict by other readings."""
    parts = [f.claim.measured, f.reason]
    if f.check and f.verdict == "disagrees":
        parts.append(f"To check: {f.check}")
    if f.other:
        parts.append(f"With projections of attention modules as Linear {f.said(f.other)}: {f.other_verdict}")
    if f.claim.before:
        parts.append(f"Read otherwise at first ({f.first_verdict}); {f.claim.before}")
    return " ".join(f"{part}." for part in parts if part)


def command(name: str) -> str:
    """What makes a row or a figure again."""
    return f"framecast study --out study --only {name}"


def claims_csv(found: Answer) -> str:
    """COLUMNS."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows(found))
    return out.getvalue()


def values_csv(found: Answer) -> str:
    """Every number of ours that is held against a claim, by both readings of attention, with the scenarios that it is of."""
    from explore.paper.answer import scenarios_of

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("id", "of", "value", "unit", "projections", "scenarios"))
    for f in found.findings:
        of = " ".join(scenarios_of(f.claim.id, found.suite))
        for counted, values in (("attention", f.values), ("linear", f.other)):
            writer.writerows((f.claim.id, name, f"{v:.9g}", f.claim.unit, counted, of) for name, v in values.items())
    return out.getvalue()


def to_json(found: Answer) -> str:
    """Claims and figures as one object."""
    tables = {
        t.name: [dict(zip(t.columns, r, strict=True)) for r in t.rows] for all_ in found.figures.values() for t in all_
    }
    data = {
        "schema_version": SCHEMA_VERSION, "calibration": calibration_hash(), "level": found.suite.level,
        "counts": dict(found.counts()), "other_reading_agrees_or_close": other_reading(found),
        "first_readings_agree_or_close": first_readings(found), "claims": rows(found), "figures": tables,
    }  # fmt: skip
    return json.dumps(data, indent=2) + "\n"


def other_reading(found: Answer) -> int:
    """Claims that agree or are close when the projections of attention modules count as linear layers."""
    return sum(f.other_verdict in ORDER[:2] for f in found.findings)


def first_readings(found: Answer) -> int:
    """Claims that agree or are close by every reading that was committed first."""
    return sum(f.first_verdict in ORDER[:2] for f in found.findings)


def summary(found: Answer) -> str:
    """'32 claims: 8 agree, 6 are close ... Calibration ...'."""
    counts = found.counts()
    said = ", ".join(f"{counts[v]} {v}" for v in ORDER if counts[v])
    return (
        f"{len(found.findings)} claim{'' if len(found.findings) == 1 else 's'}: {said}. "
        "With the projections of attention modules counted as linear layers, "
        f"{other_reading(found)} agree or are close; by the readings committed first, {first_readings(found)}. "
        f"Level {found.suite.level}, calibration {calibration_hash()}."
    )


def text(found: Answer) -> str:
    """A table with a line a claim, and the counts; of figures alone, nothing to read."""
    from tabulate import tabulate

    if not found.findings:
        return ""
    cells = [
        (f.claim.id, _cut(f.claim.title), _cut(f.claim.study, 34), _cut(f.value, 56), _ends(f), f.verdict)
        for f in found.findings
    ]
    heads = ("", "claim", "study", "framecast", "interval", "verdict")
    return f"{tabulate(cells, heads, tablefmt='simple', disable_numparse=True)}\n\n{summary(found)}"


def _cut(words: str, wide: int = WIDE) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(words, wide))


def _ends(f: Finding) -> str:
    return "" if f.low is None or f.high is None else f"{number(f.low)} .. {number(f.high)}"
