"""What `framecast compare` prints: two results as one table and as JSON (keys: docs/json.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sim.compare import SILICON, Comparison, Move, Row, Side, same_work
from sim.report import WAITING, gigabytes, number, percent, seconds, table, time_unit

SCHEMA_VERSION = 1  # of the JSON
MOVES = 8  # groups of operators that are printed
NEGLIGIBLE = 5e-5  # of the kernel time of the slower side: a class below that on both sides is left out of the table


def text(c: Comparison) -> str:
    """Who, how much faster, classes, components, bounds, which operators moved, memory."""
    parts = [_title(c), _verdict(c), _times("By operator class", "class", c.classes, c)]
    parts += [_times("By component, over its repeats", "component", c.components, c)]
    parts += [_times("By what bounds the kernel", "bound", c.bounds, c), _moves(c), _memory(c), _silicon(c), _trust(c)]
    return "\n\n".join(part for part in parts if part)


def to_json(c: Comparison) -> dict[str, Any]:
    """Plain data; `ratio` is null where A has none of it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "level": c.a.data["level"],
        "same_work": same_work(c.a, c.b),
        "a": _side(c.a),
        "b": _side(c.b),
        "speed_up": c.a.data["latency_s"] / c.b.data["latency_s"],
        **{name: [_row(row, "s") for row in getattr(c, name)] for name in ("whole", "classes", "components", "bounds")},
        "memory": [_row(row, "bytes") for row in c.memory],
        "silicon": [
            {
                "name": r.name,
                "a": r.a,
                "b": r.b,
                "ratio": r.ratio,
                "interval_a": c.a.data[f"{r.name}_interval"],
                "interval_b": c.b.data[f"{r.name}_interval"],
            }
            for r in c.silicon
        ],
        "moves": None if c.moves is None else [_move(move) for move in c.moves],
    }


def _side(side: Side) -> dict[str, Any]:
    keys = ("name", "scenario_hash", "model", "device", "software", "attention", "latency_s", "images_per_s", "changed")
    return {"title": side.title} | {key: side.data[key] for key in keys}


def _row(row: Row, unit: str) -> dict[str, Any]:
    return {"name": row.name.removesuffix("_s"), f"a_{unit}": row.a, f"b_{unit}": row.b, "ratio": row.ratio}


def _move(move: Move) -> dict[str, Any]:
    return {
        "class": move.report_class, "from": move.before, "to": move.after, "operators": move.operators, "a_s": move.a,
        "b_s": move.b,
    }  # fmt: skip


def _title(c: Comparison) -> str:
    lines = [f"{label}: {side.title}, {_settings(side.data)}" for label, side in (("A", c.a), ("B", c.b))]
    other = "" if same_work(c.a, c.b) else "\nnot the same work: the model or its request differs, so do the FLOPs"
    return "\n".join(lines) + other


def _settings(data: Mapping[str, Any]) -> str:
    changed = f", changed: {', '.join(data['changed'])}" if data["changed"] else ""
    return f"{data['software']}, attention {data['attention']}, level {data['level']}{changed}"


def _verdict(c: Comparison) -> str:
    """Latency, kernel time and what most of its difference is in, and who waits for the host."""
    first, most = _faster("Latency", c.whole[0]), max(c.classes, key=lambda row: abs(row.delta))
    if not c.whole[1].delta:
        return first
    factor, unit = _unit(c)
    there = f", the largest part of the difference in {most.name} ({_signed(factor * most.delta)} {unit})"
    shares = [side.data["host_bound_share"] for side in (c.a, c.b)]
    waits = f"the device waits for the host {percent(shares[0])} % of A's latency, {percent(shares[1])} % of B's"
    host = f"\nhost-bound: {waits}" if max(shares) > WAITING else ""
    return f"{first}\n{_faster('Kernel time', c.whole[1])}{there}{host}"


def _faster(what: str, row: Row) -> str:
    """'Latency 916 ms against 904 ms: B is 1.01x as fast as A'."""
    if row.a == row.b:
        return f"{what} {seconds(row.a)} on both"
    slow, fast = ("A", "B") if row.a > row.b else ("B", "A")
    ratio = max(row.a, row.b) / min(row.a, row.b)
    return f"{what} {seconds(row.a)} against {seconds(row.b)}: {fast} is {number(ratio)}x as fast as {slow}"


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{number(value)}"


def _times(title: str, head: str, rows: Sequence[Row], c: Comparison) -> str:
    wholes = [side.data["gpu_time_s"] for side in (c.a, c.b)]
    kept = [row for row in rows if max(row.a, row.b) > NEGLIGIBLE * max(wholes)]
    factor, unit = _unit(c)
    lines = [_line(row, wholes, factor) for row in kept]
    lines.append(_line(Row("kernel time", *wholes), wholes, factor))
    if head == "class":
        latency = Row("latency", c.a.data["latency_s"], c.b.data["latency_s"])
        lines.append([*_line(latency, wholes, factor)[:5], "", ""])
    return f"{title}\n" + table(
        lines, (head, f"A {unit}", f"B {unit}", f"B - A {unit}", "B / A", "A %", "B %"), "lrrrrrr"
    )


def _unit(c: Comparison) -> tuple[float, str]:
    """One for all tables of the two, by the longer run."""
    return time_unit(max(side.data["latency_s"] for side in (c.a, c.b)))


def _line(row: Row, wholes: Sequence[float], factor: float) -> list[str]:
    times = [number(factor * t) for t in (row.a, row.b)]
    shares = [percent(t / whole) if whole else "" for t, whole in zip((row.a, row.b), wholes, strict=True)]
    return [row.name, *times, _signed(factor * row.delta), _ratio(row), *shares]


def _ratio(row: Row) -> str:
    return "" if row.ratio is None else f"{number(row.ratio)}x"


def _moves(c: Comparison) -> str:
    if c.moves is None:
        return (
            "Which operators changed their bound: unknown, since a result.json was given without its ops.csv beside it."
        )
    if not c.moves:
        return "No operator changed its bound."
    factor, unit = _unit(c)
    rows = [
        [m.report_class, f"{m.before} -> {m.after}", str(m.operators), number(factor * m.a), number(factor * m.b)]
        for m in c.moves[:MOVES]
    ]
    more = f"\n(and {len(c.moves) - MOVES} smaller groups)" if len(c.moves) > MOVES else ""
    return (
        "Operators whose bound changed\n"
        + table(rows, ("class", "bound", "operators", f"A {unit}", f"B {unit}"), "llrrr")
        + more
    )


def _memory(c: Comparison) -> str:
    rows = [[r.name, gigabytes(r.a), gigabytes(r.b), _ratio(r)] for r in c.memory if r.a or r.b]
    at = f"(peak at {c.a.data['memory']['at']}"
    other = c.b.data["memory"]["at"]
    where = at + ")" if other == c.a.data["memory"]["at"] else f"{at}, and at {other})"
    return f"Memory {where}\n" + table(rows, ("part", "A", "B", "B / A"), "lrrr")


def _silicon(c: Comparison) -> str:
    """Energy, power, area and price, with the range of each side."""
    if not c.silicon:
        return ""
    rows = [
        [_figure(r.name), SILICON[r.name], number(r.a), _range(c.a, r.name), number(r.b), _range(c.b, r.name), _ratio(r)]
        for r in c.silicon
    ]  # fmt: skip
    return "Energy and silicon, estimated\n" + table(
        rows, ("figure", "unit", "A", "range", "B", "range", "B / A"), "llrrrrr"
    )


def _figure(key: str) -> str:
    """'energy per image' of 'energy_per_image_j'."""
    for unit in ("_j", "_w", "_mm2", "_usd"):
        key = key.removesuffix(unit)
    return key.replace("_", " ")


def _range(side: Side, name: str) -> str:
    low, high = side.data[f"{name}_interval"]
    return f"{number(low)} to {number(high)}"


def _trust(c: Comparison) -> str:
    shares = [percent(side.data["not_calibrated"]["share"]) for side in (c.a, c.b)]
    return f"Not calibrated: {shares[0]} % of A's kernel time, {shares[1]} % of B's."
