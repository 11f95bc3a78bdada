"""explain: one operator of a result, from its shapes to its time. Prices nothing new but the neighbours of its device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwspecs.device import Device
from hwspecs.errors import SpecError, nearest
from hwspecs.rates import rates
from sim import vary
from sim.calibration import load as load_calibration
from sim.cost import BOUNDS, Cost, cost
from sim.result import Floats, Priced, Result, call_class
from sim.tiles import describe, filled
from sim.traffic import miss
from workloads.kind import REPORT_CLASSES, Dims, Ints, kinds
from workloads.trace import Trace

TERMS = ("tensor", "vector", "exp", "l2", "hbm", "latency", "fixed")  # columns of Cost, in seconds
SOURCES = {
    "input0": "1st input", "input1": "2nd input", "input2": "3rd input", "weight": "weights",
    "previous": "the kernel before",
}  # fmt: skip
LISTED = 5  # operators that a message names
FACTORS = np.exp2(np.arange(1, 33) / 8)  # multiples of a device's number that are tried, to 16, in steps of 9 %
FINER = 16  # steps into which the one with the crossing is divided


@dataclass(frozen=True)
class Read:
    """What a kernel reads. Bytes; `distance` is what was touched since it was last touched, infinite for never."""

    source: str
    bytes: float
    distance: float
    miss_share: float


@dataclass(frozen=True)
class Kernel:
    """One kernel of the way taken. Seconds, bytes; tile '', waves and occupancy 0 where it has no tiles. filled: share of its
    blocks of scores that the sequences fill, None where it has none."""

    name: str
    time: float
    gap: float
    bound: str
    terms: Mapping[str, float]
    tile: str
    filled: float | None
    waves: float
    occupancy: float
    reads: tuple[Read, ...]
    write_bytes: float
    l2_bytes: float
    hbm_bytes: float
    covered: bool
    correction: float


@dataclass(frozen=True)
class Way:
    """A way to run the operator; time None where neither the software nor the comparison priced it. `possible`: it has a
    kernel for the operator's shape and type; `allowed`: that, and the software may choose it."""

    name: str
    kernels: int
    time: float | None
    allowed: bool
    possible: bool
    taken: bool


@dataclass(frozen=True)
class Change:
    """A number of the device that makes another bound hold for the operator's longest kernel. SI units; times of one run."""

    path: str
    unit: str
    value: float
    needed: float
    bound: str
    time: float

    @property
    def factor(self) -> float:
        """needed / value."""
        return self.needed / self.value


@dataclass(frozen=True)
class Explained:
    """One operator. `time` and `gap`: seconds of one run; `total`: of all runs of this call in one inference.

    Attributes:
        others: labels of the other operators at the same module path. alike: calls that are priced alike.
        host: seconds of the host to issue one run. reach: bytes touched in between at which half of a read misses L2.
        better, worse: what moves the bound by making it faster, and what would by making it slower; nearest first.
    """

    result: Result
    call: int
    others: tuple[str, ...]
    alike: int
    time: float
    gap: float
    total: float
    host: float
    ways: tuple[Way, ...]
    kernels: tuple[Kernel, ...]
    better: tuple[Change, ...]
    worse: tuple[Change, ...]


def explain(result: Result, op: str) -> Explained:
    """The operator that `op` names: a module path, or what is unique of its end or its start; `:label` picks one of several.

    SpecError where nothing or more than one module matches.
    """
    call, others = find_call(result, op)
    c = result.priced.cost
    row = int(c.kernels.call_row[call])
    taken = np.flatnonzero((c.kernels.row == row) & c.chosen)
    longest = taken[np.argmax(c.time[taken])]
    changes = list(_changes(result, row, int(longest - np.flatnonzero(c.kernels.row == row)[0])))
    time = float(c.time[taken].sum())
    return Explained(
        result=result,
        call=call,
        others=others,
        alike=int((c.kernels.call_row == row).sum()),
        time=time,
        gap=float(c.gap[taken].sum()),
        total=time * int(result.trace.call_repeats()[call]),
        host=float(result.priced.host[call]),
        ways=tuple(_ways(result, call)),
        kernels=tuple(_kernel(result, call, int(k)) for k in taken if c.time[k] > 0),
        better=tuple(ch for ch in changes if ch.time <= time),
        worse=tuple(ch for ch in changes if ch.time > time),
    )


def find_call(result: Result, op: str) -> tuple[int, tuple[str, ...]]:
    """The call that `op` names, the longest of its module's where no label picks one, and the labels of the others."""
    trace = result.trace
    path, _, label = op.partition(":")
    spent = result.priced.cost.per_call(result.priced.cost.time) * trace.call_repeats()
    calls = np.flatnonzero(trace.call_path == trace.paths.index(_module(trace, path.strip("."), spent, op)))
    labels = [_label(trace, int(call)) for call in calls]
    if label:
        keep = [
            i for i, name in enumerate(labels) if label in (name, f"aten.{name}", trace.kinds[_kind(trace, calls[i])])
        ]
        if not keep:
            has = list(dict.fromkeys(labels))
            raise SpecError(f"--op {op}: no '{label}' at {path}{nearest(label, has)} (it has {', '.join(has)})")
        calls = calls[keep]
    call = int(calls[np.argmax(spent[calls])])
    return call, tuple(dict.fromkeys(name for name in labels if name != _label(trace, call)))


def _module(trace: Trace, asked: str, spent: Floats, op: str) -> str:
    """The one path of a call that `asked` matches: whole, at its end, at its start, or in the middle, by whole names."""
    paths = list(dict.fromkeys(trace.paths[p] for p in trace.call_path))
    tests = (
        lambda p: p == asked,
        lambda p: p.endswith(f".{asked}"),
        lambda p: p.startswith(f"{asked}."),
        lambda p: f".{asked}." in p,
    )
    found: list[str] = next((hits for test in tests if (hits := [p for p in paths if test(p)])), []) if asked else []
    if not found:
        ends = list(dict.fromkeys([*paths, *(p.rpartition(".")[2] for p in paths)]))
        hint = nearest(asked, ends) or f"; for example '{_longest_first(trace, paths, spent)[0]}'"
        raise SpecError(f"--op {op}: no operator of {trace.model} is at this module path{hint}")
    if len(found) > 1:
        ordered = _longest_first(trace, found, spent)
        more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
        raise SpecError(f"--op {op}: {len(found)} modules match; the longest are {', '.join(ordered[:LISTED])}{more}")
    return found[0]


def _longest_first(trace: Trace, paths: Sequence[str], spent: Floats) -> list[str]:
    by_path = dict(zip(trace.paths, np.bincount(trace.call_path, spent, len(trace.paths)), strict=True))
    return sorted(paths, key=lambda p: -by_path[p])


def _label(trace: Trace, call: int) -> str:
    """'scaled_dot_product_attention' of 'aten.scaled_dot_product_attention'."""
    return trace.labels[int(trace.op_label[trace.call_op[call]])].removeprefix("aten.")


def _kind(trace: Trace, call: Any) -> int:
    return int(trace.op_kind[trace.call_op[call]])


def about(e: Explained) -> dict[str, Any]:
    """What is known of the operator before it is priced: names, dims, FLOPs."""
    trace, op = e.result.trace, int(e.result.trace.call_op[e.call])
    kind = trace.kinds[_kind(trace, e.call)]
    return {
        "path": trace.paths[int(trace.call_path[e.call])],
        "label": trace.labels[int(trace.op_label[op])],
        "kind": kind,
        "class": REPORT_CLASSES[int(call_class(trace)[e.call])],
        "component": trace.segments[int(trace.call_segment()[e.call])].name,
        "repeats": int(trace.call_repeats()[e.call]),
        "dims": {n: int(v) for n, v in zip(kinds()[kind].dims, trace.op_dims[op], strict=False)},
        "dtype": trace.dtypes[int(trace.op_dtype[op])],
        "flops": int(trace.op_flops()[op]),
    }


def _ways(result: Result, call: int) -> Iterator[Way]:
    """Every way that the operator's kind knows, priced by the scenario's software or by the comparison of attention."""
    own = dict(_priced_ways(result.priced, call))
    compared = dict(w for p in result.attention.values() for w in _priced_ways(p, call))
    taken = next(name for name, (_, _, chosen) in own.items() if chosen)
    trace, op = result.trace, result.trace.call_op[[call]]
    kind = kinds()[trace.kinds[_kind(trace, call)]]
    for way in kind.ways:
        possible = bool(np.all(way.possible(trace.dims(kind.name, op), trace.op_itemsize()[op])))
        kernels, time, _ = own.get(way.name) or compared.get(way.name) or (0, None, False)
        yield Way(way.name, kernels, time, way.name in own, possible, way.name == taken)


def _priced_ways(priced: Priced, call: int) -> Iterator[tuple[str, tuple[int, float, bool]]]:
    """Way -> launched kernels, seconds with gaps, whether it was taken."""
    c = priced.cost
    for start in np.flatnonzero(c.kernels.start_row == c.kernels.call_row[call]):
        mine = c.kernels.start == start
        time = float((c.time + c.gap)[mine].sum())
        yield (
            c.kernels.way[int(np.flatnonzero(mine)[0])],
            (int((c.time[mine] > 0).sum()), time, bool(c.chosen[mine].any())),
        )


def _kernel(result: Result, call: int, k: int) -> Kernel:
    c, tiled = result.priced.cost, bool(result.priced.cost.occupancy[k] > 0)
    terms = {name: float(getattr(c, name)[k]) for name in TERMS}
    terms["latency"] -= terms["fixed"]
    return Kernel(
        name=c.kernels.name[k],
        time=float(c.time[k]),
        gap=float(c.gap[k]),
        bound=BOUNDS[int(c.bound[k])],
        terms=terms,
        tile=describe(int(c.tile[k]), c.kernels.flash[:, k]) if tiled else "",
        filled=filled(int(c.tile[k]), c.kernels.flash[:, k]) if tiled else None,
        waves=float(c.waves[k]),
        occupancy=float(c.occupancy[k]),
        reads=tuple(_reads(result, call, k)),
        write_bytes=float(c.kernels.write_bytes[k]),
        l2_bytes=float(c.l2_bytes[k]),
        hbm_bytes=float(c.hbm_bytes[k]),
        covered=bool(c.covered[k]),
        correction=_correction(result, k),
    )


def _correction(result: Result, k: int) -> float:
    """Factor that a run at the calibrated level puts on the time of a kernel, 1 where none."""
    from sim.correct import factors
    from sim.fitted import fit_of

    fitted = fit_of(result.scenario.device)
    return float(factors(result.priced.cost.kernels, fitted, result.scenario.device.name)[k]) if fitted else 1.0


def _reads(result: Result, call: int, k: int) -> Iterator[Read]:
    """The reads of a kernel, with the sources that its way gives them. Roofline has no L2: all of it misses."""
    kernels, physical = result.priced.cost.kernels, result.scenario.level != "roofline"
    share = miss(kernels.distances[:, k], rates(result.scenario.device), load_calibration().terms)
    for slot, source in enumerate(_sources(result, call, k)):
        size, missed = float(kernels.reads[slot, k]), float(share[slot]) if physical else 1.0
        if size:
            yield Read(SOURCES[source], size, float(kernels.distances[slot, k]), missed)


def _sources(result: Result, call: int, k: int) -> list[str]:
    trace, kernels = result.trace, result.priced.cost.kernels
    op = trace.call_op[[call]]
    kind = kinds()[trace.kinds[_kind(trace, call)]]
    way = next(w for w in kind.ways if w.name == kernels.way[k])
    dims: Dims = trace.dims(kind.name, op)
    works = way.rows(dims, trace.op_itemsize()[op], result.scenario.software)
    return [read.source for read in works[k - int(kernels.starts[kernels.start[k]])].reads]


def _changes(result: Result, row: int, kernel: int) -> Iterator[Change]:
    """For each number of the device, up and down, the first multiple at which another bound holds; nearest first."""
    device, alone = result.scenario.device, vary.row(result.priced.cost.kernels, row)

    def priced(devices: Sequence[Device]) -> Cost:
        return cost(alone, rates(devices), result.scenario.level)

    now = int(priced([device]).bound[0, kernel])
    tried = [(n, f) for n in vary.numbers(device) for f in (FACTORS, 1 / FACTORS)]
    if not tried:
        return
    codes = priced([d for n, f in tried for d in vary.at(device, n, f)]).bound[:, kernel].reshape(len(tried), -1)
    found = []
    for (number, factors), bound in zip(tried, codes, strict=True):
        if (bound != now).any():
            first = int(np.argmax(bound != now))
            near = factors[first - 1] if first else 1.0
            found.append((number, np.geomspace(near, factors[first], FINER + 1)[1:]))
    if not found:
        return
    fine = priced([d for n, f in found for d in vary.at(device, n, f)])
    yield from sorted(_crossings(device, found, fine, now, kernel), key=lambda change: abs(np.log(change.factor)))


def _crossings(device: Device, found: list[tuple[vary.Number, Any]], fine: Cost, now: int, k: int) -> Iterator[Change]:
    """The first of each field's finer steps with another bound, where the device allows it."""
    bounds: Ints = fine.bound[:, k].reshape(len(found), -1)
    times: Floats = (fine.time * fine.chosen).sum(axis=-1).reshape(len(found), -1)
    for i, (number, factors) in enumerate(found):
        step = int(np.argmax(bounds[i] != now))
        changed = vary.with_number(device, number, number.value * factors[step])
        if vary.is_possible(changed) and bounds[i, step] != now:
            needed = vary.value_of(changed, number)
            yield Change(
                number.field, number.unit, number.value, needed, BOUNDS[int(bounds[i, step])], float(times[i, step])
            )
