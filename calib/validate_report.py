"""Published latencies beside ours as text, JSON and Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from calib.published import Published
from calib.validate import Beside, groups, inside, overall, votes
from sim.report import number

AIM = 0.12  # median over models of the median absolute error, rows bound by the host apart: what was asked for
MODEL_HEADS = ("model, rows not bound by the host", "rows", "median abs. error %", "median error %")


def to_json(published: Published, rows: Sequence[Beside]) -> dict[str, Any]:
    """Plain data: every row, one vote a model, what was left out and why."""
    return {
        "schema_version": 1,
        "overall_error": overall(rows),
        "models": [vars(v) for v in votes(rows)],
        "rows": [_row(r) for r in rows],
        "left_out": [{"id": id_, "why": why} for id_, why in published.left_out],
    }


def _row(r: Beside) -> dict[str, Any]:
    c = r.case
    return {
        "id": c.id, "line": c.line, "model": c.model, "of": c.of, "software": c.assumed, "devices": list(c.devices),
        "batch": c.request.batch, "published_s": c.seconds, "ours_s": r.ours, "low_s": r.low, "high_s": r.high,
        "gpu_s": r.gpu, "host_bound": r.host_bound, "sampler_waits": c.sampler.waits, "runs_beyond_steps": c.sampler.extra,
        "interval80": list(r.interval), "error": r.error, "classes": dict(r.classes),
    }  # fmt: skip


def text(published: Published, rows: Sequence[Beside]) -> str:
    """Row by row, by model and software, by model, by operator class, and what was left out."""
    parts = [_rows(rows), by_software(rows), by_model(rows), by_class(rows), left_out(published)]
    return "\n\n".join(part for part in parts if part)


def _rows(rows: Sequence[Beside]) -> str:
    heads = ("row", "model", "batch", "of", "software assumed", "published s", "ours s", "error %", "bound by")
    lines = [
        (r.case.id, r.case.model, r.case.request.batch, r.case.of, r.case.assumed, number(r.case.seconds), _interval(r),
         f"{100 * r.error:+.0f}", "host" if r.host_bound else "device")
        for r in rows
    ]  # fmt: skip
    return _table(lines, heads)


def _interval(r: Beside) -> str:
    """'9.3', or '9.3 (9.1 to 9.8)' over the devices that the row may mean."""
    over = f" ({number(r.low)} to {number(r.high)})" if len(r.case.devices) > 1 else ""
    return number(r.ours) + over


def by_software(rows: Sequence[Beside]) -> str:
    """Errors by model and assumed software, rows not bound by the host; then those that are."""
    lines = []
    for model, words, some in groups(rows):
        e = 100 * np.array([r.error for r in some])
        lines.append(
            (
                model,
                words,
                len(e),
                f"{np.median(np.abs(e)):.0f}",
                f"{np.median(e):+.0f}",
                f"{e.min():+.0f} to {e.max():+.0f}",
            )
        )
    host = [r for r in rows if r.host_bound]
    if host:
        e = 100 * np.array([r.error for r in host])
        lines.append(
            (
                "bound by the host",
                "all",
                len(e),
                f"{np.median(np.abs(e)):.0f}",
                f"{np.median(e):+.0f}",
                f"{e.min():+.0f} to {e.max():+.0f}",
            )
        )
    return _table(lines, ("model", "software assumed", "rows", "median abs. error %", "median error %", "range %"))


def by_model(rows: Sequence[Beside]) -> str:
    """One vote a model."""
    lines = [(v.model, v.rows, f"{100 * v.error:.1f}", f"{100 * v.bias:+.1f}") for v in votes(rows)]
    found = overall(rows)
    if np.isnan(found):
        return _table(lines, MODEL_HEADS)
    free = [r for r in rows if not r.host_bound]
    verdict = (
        f"\n\nMedian over models: {100 * found:.1f} % (asked: at most {100 * AIM:.0f} %). In our intervals of 80 % lie"
        f" {100 * inside(free):.0f} % of these rows, and {100 * inside(rows):.0f} % of all."
    )
    return _table(lines, MODEL_HEADS) + verdict


def by_class(rows: Sequence[Beside]) -> str:
    """Of the rows not bound by the host: what their time is made of, where ours is fast and where it is not."""
    free = [r for r in rows if not r.host_bound]
    names = Counter({name: 0.0 for r in free for name in r.classes})
    lines = []
    for label, some in (("ours is faster by 15 % and more", [r for r in free if r.error <= -0.15]),
                        ("within 15 %", [r for r in free if abs(r.error) < 0.15]),
                        ("ours is slower by 15 % and more", [r for r in free if r.error >= 0.15])):  # fmt: skip
        shares = {
            n: float(np.mean([r.classes.get(n, 0.0) / sum(r.classes.values()) for r in some])) if some else 0.0
            for n in names
        }
        lines.append((label, len(some), *(f"{100 * shares[n]:.0f}" for n in names)))
    return _table(lines, ("mean share of our kernel time, %", "rows", *names))


def left_out(published: Published) -> str:
    """Why rows are not priced, counted."""
    counted = Counter(why for _, why in published.left_out)
    return "\n".join(f"not priced: {count} rows ({why})" for why, count in counted.most_common())


def _table(lines: Sequence[Sequence[Any]], heads: Sequence[str]) -> str:
    return str(tabulate(lines, heads, tablefmt="github", disable_numparse=True)) if lines else ""
