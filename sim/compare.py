"""compare: two results side by side: where the time went, which operators changed their bound, memory.

A side is a scenario that is replayed, or what an earlier run wrote: both are read as `result.json` and `ops.csv`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwspecs.errors import SpecError
from sim.result import SCHEMA_VERSION, Result

RESULT, OPERATORS = "result.json", "ops.csv"
SILICON = {
    "energy_per_image_j": "J", "average_power_w": "W", "full_power_w": "W", "area_mm2": "mm2", "price_usd": "USD",
    "usd_per_1000_images": "USD",
}  # fmt: skip
Operator = tuple[str, str, str]  # component, module path, label


@dataclass(frozen=True)
class Side:
    """One of the two. `operators`: (bound, seconds, class) by operator; None where no ops.csv is beside the result."""

    title: str
    data: Mapping[str, Any]
    operators: Mapping[Operator, tuple[str, float, str]] | None


@dataclass(frozen=True)
class Row:
    """Seconds (or bytes) of one thing on both sides; 0 where a side does not have it."""

    name: str
    a: float
    b: float

    @property
    def delta(self) -> float:
        """b - a."""
        return self.b - self.a

    @property
    def ratio(self) -> float | None:
        """b / a; None where a is 0."""
        return self.b / self.a if self.a else None


@dataclass(frozen=True)
class Move:
    """Operators of one class whose bound is another on the other side: how many, and their seconds on both."""

    report_class: str
    before: str
    after: str
    operators: int
    a: float
    b: float


@dataclass(frozen=True)
class Comparison:
    """Rows in descending time of the first side. `moves` is None where a side has no operators, `silicon` empty where one
    does not say what it is made of."""

    a: Side
    b: Side
    whole: tuple[Row, ...]
    classes: tuple[Row, ...]
    components: tuple[Row, ...]
    bounds: tuple[Row, ...]
    memory: tuple[Row, ...]
    silicon: tuple[Row, ...]
    moves: tuple[Move, ...] | None


def of_result(result: Result, title: str) -> Side:
    """A side from a replay."""
    from sim.report import ops_csv

    return Side(title, result.to_json(), _operators(ops_csv(result)))


def of_files(path: Path) -> Side:
    """A side from a result.json, or a folder that holds one. SpecError where it cannot be read."""
    file = path / RESULT if path.is_dir() else path
    try:
        data: Any = json.loads(file.read_text(encoding="utf-8"))
        beside = file.parent / OPERATORS
        operators = _operators(beside.read_text(encoding="utf-8")) if beside.exists() else None
    except OSError as error:
        raise SpecError(f"{file}: cannot read the result: {(error.strerror or str(error)).lower()}") from None
    except ValueError as error:
        raise SpecError(f"{file}: not a framecast result, or damaged: {error}") from None
    except KeyError as error:
        raise SpecError(
            f"{file.parent / OPERATORS}: not a framecast table of operators: it has no column {error}"
        ) from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION or "latency_s" not in data:
        raise SpecError(
            f"{file}: not a framecast result: schema version is {version}, expected {SCHEMA_VERSION}; run it again"
        )
    return Side(f"{data['name']} on {data['device']}", data, operators)


def compare(a: Side, b: Side) -> Comparison:
    """Both sides, line by line. SpecError where they were priced at different levels: those are never mixed."""
    levels = a.data["level"], b.data["level"]
    if levels[0] != levels[1]:
        what = f"'{a.title}' is at level {levels[0]}, '{b.title}' at level {levels[1]}"
        raise SpecError(f"compare: {what}; levels are never mixed: price both at one (--set level=physical)")
    return Comparison(
        a=a,
        b=b,
        whole=tuple(_rows(*({n: s.data[n] for n in ("latency_s", "gpu_time_s", "launch_gap_s")} for s in (a, b)))),
        classes=tuple(_ordered(_rows(_classes(a.data), _classes(b.data)))),
        components=tuple(_rows(*({c["name"]: c["time_s"] for c in s.data["components"]} for s in (a, b)))),
        bounds=tuple(_ordered(_rows(a.data["bounds"], b.data["bounds"]))),
        memory=tuple(_rows(_memory(a.data), _memory(b.data))),
        silicon=tuple(_rows(*({n: s.data[n] for n in SILICON} for s in (a, b)))) if _has_silicon(a, b) else (),
        moves=tuple(_moves(a.operators, b.operators)) if a.operators is not None and b.operators is not None else None,
    )


def _has_silicon(*sides: Side) -> bool:
    """Both say what they are made of (files of earlier versions do not)."""
    return all(side.data.get(name) is not None for side in sides for name in SILICON)


def same_work(a: Side, b: Side) -> bool:
    """Whether both compute the same: one model, the same matrix FLOPs."""
    return bool(a.data["model"] == b.data["model"] and a.data["flops"] == b.data["flops"])


def by_class(data: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of kernel time by class, over all components."""
    return _classes(data)


def _classes(data: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for component in data["components"]:
        for name, sums in component["classes"].items():
            found[name] = found.get(name, 0.0) + sums["time_s"]
    return found


def _memory(data: Mapping[str, Any]) -> dict[str, float]:
    parts = {name.removesuffix("_bytes"): size for name, size in data["memory"].items() if name.endswith("_bytes")}
    return {"peak": data["peak_memory_bytes"], **parts, "capacity": data["memory_capacity_bytes"]}


def _rows(a: Mapping[str, float], b: Mapping[str, float]) -> Iterator[Row]:
    for name in dict.fromkeys([*a, *b]):
        yield Row(name, a.get(name, 0.0), b.get(name, 0.0))


def _ordered(rows: Iterable[Row]) -> Sequence[Row]:
    return sorted(rows, key=lambda row: -max(row.a, row.b))


def _operators(text: str) -> dict[Operator, tuple[str, float, str]]:
    """From ops.csv; rows of one module and label are added, and the longest of them names the bound."""
    found: dict[Operator, tuple[str, float, str]] = {}
    longest: dict[Operator, float] = {}
    for line in csv.DictReader(io.StringIO(text)):
        key, time = (line["component"], line["path"], line["label"]), float(line["time_s"])
        bound, total, report_class = found.get(key, ("", 0.0, line["class"]))
        if time >= longest.get(key, 0.0):
            bound, longest[key] = line["bound"], time
        found[key] = (bound, total + time, report_class)
    return found


def _moves(
    a: Mapping[Operator, tuple[str, float, str]], b: Mapping[Operator, tuple[str, float, str]]
) -> Iterator[Move]:
    """Grouped by class and pair of bounds, those with most time first."""
    groups: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for key, (before, time_a, report_class) in a.items():
        after, time_b, _ = b.get(key, (before, 0.0, ""))
        if after != before:
            groups.setdefault((report_class, before, after), []).append((time_a, time_b))
    moves = [Move(*names, len(t), sum(x for x, _ in t), sum(y for _, y in t)) for names, t in groups.items()]
    return iter(sorted(moves, key=lambda move: -max(move.a, move.b)))
