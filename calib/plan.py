"""Which shapes to measure, and in which order: the operators of the models at hand, and a design around them.

The most informative row comes first: its share of the suite's time (as `sim.cost` prices it today) times its distance, in octaves
of the extents, from what was measured before or is planned earlier. Everything here is a function of the seed.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.measure_files import PLAN, SHAPE
from calib.shapes import FAMILIES, FAMILY, At, Row, design, rows_of, size_of
from workloads.kind import kinds
from workloads.trace import Trace

IMAGE_SIZES = (256, 512, 1024)  # pixels of a side
VIDEO_SIZES, FRAMES = (256, 512), (8, 16)
DEVICE, SOFTWARE = "a100-sxm-80gb", "pytorch-eager"  # on which the shares of time are priced
CAP = 6.0  # octaves at which a shape is as new as it can be
APART = 2.0  # octaves that another operator, layout, way or dtype is worth
CONDITIONS = {"cold": 1.0, "warm": 0.5}  # weight of each; warm activations and cold weights bracket what a model sees
PARTS = 0.3  # weight of what an operator is made of (softmax of an attention), relative to the operator
DESIGN = 0.5  # weight of a family's design, all its rows together, relative to the family
MOST_ELEMENTS = (
    6e9  # of the largest tensor of a trace's row: 12 GB in fp16, so that operands and results fit into 80 GB
)
ROW_SECONDS = 0.15  # of a campaign per row: an assumption (3 or 4 visits of 40 ms) until one has run on a GPU


@dataclass(frozen=True)
class Candidate:
    """A row that could be measured, its weight (share of the suite's time), and where it comes from."""

    row: Row
    weight: float
    origin: str


def pictured(models: Mapping[str, Any]) -> list[str]:
    """Ids of the models whose requests have a size: those that make images and video."""
    from hwspecs import spec

    return [id_ for id_, model in models.items() if "height" in {field.path for field in spec.fields(model.request)}]


def suite(
    models: Iterable[str], sizes: Sequence[int], frames: Sequence[int], say: Callable[[str], None]
) -> list[tuple[str, Trace]]:
    """(origin, trace) of every model at every size and number of frames.

    Where both are empty, each model's own request and our sizes; what a model cannot take of those is left out, and said.
    SpecError for an unknown model, and for a given size that a model cannot take.
    """
    from hwspecs.errors import SpecError
    from workloads.cache import trace_of

    found: list[tuple[str, Trace]] = []
    for model in models:
        for size, count in _variants(model, sizes, frames):
            origin = " ".join([model, *(str(v) for v in (size, count) if v)])
            try:
                found.append((origin, trace_of(model, _request(model, size, count))))
            except (SpecError, RuntimeError, ValueError) as error:
                if sizes or frames:
                    raise
                reason = str(error).splitlines()[0].removeprefix("--sizes, --frames: ").removeprefix(f"{model}: ")
                say(f"{origin}: left out: {reason}")
            else:
                say(origin)
    return found


def _variants(model: str, sizes: Sequence[int], frames: Sequence[int]) -> list[tuple[int, int]]:
    """(size, frames) to trace a model at; 0 is the model's own."""
    from hwspecs import spec
    from workloads.model import find

    names = {field.path for field in spec.fields(find(model).request)}
    own = [] if sizes or frames else [(0, 0)]
    counts = (tuple(frames) or FRAMES) if "frames" in names else (0,)
    sides = (tuple(sizes) or (VIDEO_SIZES if "frames" in names else IMAGE_SIZES)) if "height" in names else (0,)
    return list(dict.fromkeys([*own, *((size, count) for size in sides for count in counts)]))


def _request(model: str, size: int, count: int) -> Any:
    """The request of a model at a size and number of frames (0: it has none). SpecError names the options of `calib plan`."""
    from hwspecs.errors import SpecError
    from workloads.cli import request_of

    common = {"height": str(size), "width": str(size)} if size else {}
    try:
        return request_of(model, common, [f"frames={count}"] if count else [])
    except SpecError as error:
        first = error.problems[0].removeprefix("--height: ").removeprefix("--set ")
        raise SpecError(f"--sizes, --frames: {model}: {first}") from None


def shares(trace: Trace) -> dict[str, NDArray[np.float64]]:
    """Share of one inference's time by operator, (ops,), with fused and with unfused attention: keys of `attention`."""
    from hwspecs import device, software
    from hwspecs.rates import rates
    from sim.cost import cost
    from workloads.lower import lower

    on, base = rates(device.load(DEVICE)), software.load(SOFTWARE)
    out = {}
    for way in ("flash-2", "unfused"):
        priced = cost(lower(trace, replace(base, attention=way)), on)
        time = priced.per_call(priced.time) * trace.call_repeats()
        of_op = np.bincount(trace.call_op, weights=time / time.sum(), minlength=len(trace.op_kind))
        out[way] = np.asarray(of_op, dtype=np.float64)
    return out


def candidates(traces: Sequence[tuple[str, Trace]], seed: int, scale: float = 1.0) -> list[Candidate]:
    """Distinct rows of the traces, shares of the same row added up, and of the design; each cold and warm."""
    found: dict[str, Candidate] = {}
    for origin, trace in traces:
        of = shares(trace)
        for op in range(len(trace.op_kind)):
            for row, weight in _weighted(trace, op, of):
                _add(found, row, weight / len(traces), origin)
    family: dict[str, float] = dict.fromkeys(FAMILIES, 0.0)
    for one in found.values():
        family[FAMILY[one.row["op"]]] += one.weight
    designed = list(design(seed, scale))
    count = {name: sum(f == name for f, _ in designed) for name in FAMILIES}
    for name, row in designed:
        weight = DESIGN * max(family[name], 0.01) / count[name]
        for condition, share in CONDITIONS.items():
            _add(found, {**row, "condition": condition}, share * weight, "design")
    return list(found.values())


def _weighted(trace: Trace, op: int, of: Mapping[str, NDArray[np.float64]]) -> Iterable[tuple[Row, float]]:
    kind = trace.kinds[trace.op_kind[op]]
    d = dict(zip(kinds()[kind].dims, trace.op_dims[op].tolist(), strict=False))
    at = At(trace.dtypes[trace.op_dtype[op]], trace.labels[trace.op_label[op]], int(trace.request.get("frames", 1)))
    rows = rows_of(kind, d, at)
    alike = Counter(_role(row, rows) for row in rows)
    for row in rows:
        if size_of(row)[0] > MOST_ELEMENTS or not row["dtype"].startswith(("fp", "bf")):
            continue
        role = _role(row, rows)
        ways = {"unfused": ["unfused"], "": ["flash-2", "unfused"]}.get(row.get("implementation", ""), ["flash-2"])
        share = float(np.mean([of[way][op] for way in ways])) / alike[role]
        for condition, part in CONDITIONS.items():
            yield {**row, "condition": condition}, share * part * (PARTS if role == "part" else 1.0)


def _role(row: Row, rows: Sequence[Row]) -> str:
    """What rows of one operator share its time among each other: the ways to run it fused, unfused, and its parts."""
    if FAMILY[row["op"]] != FAMILY[rows[0]["op"]]:
        return "part"
    return "unfused" if row.get("implementation") == "unfused" else "whole"


def _add(found: dict[str, Candidate], row: Row, weight: float, origin: str) -> None:
    key = f"{plan_id(row)} {row['condition']}"
    before = found.get(key)
    found[key] = Candidate(row, weight, origin) if before is None else replace(before, weight=before.weight + weight)


def plan_id(row: Mapping[str, Any]) -> str:
    """Ten hex digits of what is measured, the same in every plan; cold and warm share it."""
    cells = [f"{name}={row[name]}" for name in ("op", "dtype", "layout", *SHAPE) if str(row.get(name) or "")]
    return hashlib.sha256(" ".join(cells).encode()).hexdigest()[:10]


def ordered(found: Sequence[Candidate], measured: Sequence[Mapping[str, Any]] = ()) -> list[tuple[Candidate, float]]:
    """(candidate, weight x distance), most informative first; rows to check come after all rows to fit."""
    out: list[tuple[Candidate, float]] = []
    for name, (ops, _) in FAMILIES.items():
        own = [c for c in found if c.row["op"] in ops]
        known = [m for m in measured if m["op"] in ops]
        points = _features(name, [*(c.row for c in own), *known])
        out += [
            (own[i], gain)
            for i, gain in _greedy(points[: len(own)], points[len(own) :], np.array([c.weight for c in own]))
        ]
    return sorted(out, key=lambda pair: (pair[0].row["use"] == "check", -pair[1]))


def _features(family: str, rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """(rows, features): log2 of the extents, and a coordinate for each operator, layout, way, condition and dtype."""
    extents = [[float(row.get(name) or 1) for name in FAMILIES[family][1]] for row in rows]
    columns = [np.log2(np.maximum(np.array(extents, dtype=float).reshape(len(rows), -1), 1.0))]
    for name, apart in (
        ("op", APART),
        ("layout", APART),
        ("implementation", APART),
        ("dtype", APART),
        ("condition", 1.0),
    ):
        values = [str(row.get(name) or "") for row in rows]
        columns += [
            np.array([[v == value] for v in values], dtype=float) * apart / 2**0.5 for value in sorted(set(values))
        ]
    return np.hstack(columns) if rows else np.zeros((0, 1))


def _greedy(
    points: NDArray[np.float64], known: NDArray[np.float64], weight: NDArray[np.float64]
) -> Iterable[tuple[int, float]]:
    """Indices and gains: each time the point with the largest weight x distance to the nearest known or chosen one."""
    near = np.full(len(points), CAP)
    for point in known:
        near = np.minimum(near, np.linalg.norm(points - point, axis=1))
    left = np.ones(len(points), dtype=bool)
    for _ in range(len(points)):
        gain = np.where(left, weight * near, -1.0)
        i = int(np.argmax(gain))
        left[i] = False
        yield i, float(gain[i])
        near = np.minimum(near, np.linalg.norm(points - points[i], axis=1))


def to_csv(order: Sequence[tuple[Candidate, float]], minutes: float = 0.0) -> str:
    """plan.csv: the first rows that fit the minutes (0: all), numbered by priority."""
    count = len(order) if not minutes else int(minutes * 60 / ROW_SECONDS)
    text = io.StringIO()
    writer = csv.DictWriter(text, PLAN, lineterminator="\n")
    writer.writeheader()
    for priority, (one, _) in enumerate(order[:count], 1):
        row = {name: value for name, value in one.row.items() if value != ""}
        writer.writerow({**row, "plan_id": plan_id(row), "priority": priority, "origin": one.origin})
    return text.getvalue()
