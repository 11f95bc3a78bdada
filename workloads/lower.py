"""Lower a trace to kernel rows: every way in which a call may run under a software, each kernel with its bytes and reuse.

A *priced row* is an operator together with what its calls have in common: how long ago its inputs were last touched (which
decides what is still in L2) and which of its reads and writes a fusing compiler removed. Calls that agree share a row.
Nothing here depends on a device: distances are in bytes, and `sim.traffic` holds them against a capacity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.device import DTYPES
from hwspecs.software import Software
from workloads.context import Context, context
from workloads.kind import ITEMSIZE, Ints, Way, Work, kinds
from workloads.trace import Trace

Floats: TypeAlias = NDArray[np.float64]
READS = 3  # reads of a kernel, at most
FAR = float("inf")  # distance of data that was never touched before


@dataclass(frozen=True)
class Kernels:
    """Kernel rows, float64 or int64 columns of shape (kernels,), sorted by priced row, way, launch order.

    `reads` and `distances` have shape (READS, kernels): bytes, and bytes touched since those were last touched.
    `starts` are the first kernels of each (row, way); `start_row` the row of each start; `call_row` maps calls to rows.
    """

    row: Ints
    start: Ints  # (kernels,) index of the (row, way) that a kernel belongs to
    starts: Ints
    start_row: Ints
    workspace: Floats  # (starts,) largest bytes of intermediates alive at a time inside a call run in this way
    dispatch: Floats  # (starts,) host time of an eager call run in this way over that of the cheapest operator
    call_row: Ints
    op: Ints  # (rows,) the trace's op of each priced row
    name: tuple[str, ...]
    way: tuple[str, ...]
    family: tuple[str, ...]  # kind/way, the key of a calibration's coverage
    pattern: tuple[str, ...]
    dtype: tuple[str, ...]
    itemsize: Floats
    launches: Floats
    gemm: Floats  # (4, kernels): batch, m, n, k; zeros where the kernel is not a tiled product
    flash: Floats  # (5, kernels): groups, q_len, kv_len, head_dim, causal
    flops: Floats
    vector_flops: Floats
    exp_ops: Floats
    reads: Floats
    distances: Floats
    write_bytes: Floats
    run_bytes: Floats
    blocks: Floats
    in_flight: Floats

    @property
    def rows(self) -> int:
        """Number of priced rows."""
        return len(self.op)

    def __len__(self) -> int:
        return len(self.row)


def lower(trace: Trace, software: Software) -> Kernels:
    """Kernel rows of a trace under a software. Raises ValueError when the software allows no way to run a kind."""
    recipes = _recipes(trace, software)
    footprints = [min(ways, key=lambda r: sum(r.sizes)).footprint for ways in recipes]
    calls = context(trace, np.array(footprints), software.fusion == "pointwise")
    keys = np.column_stack(
        [
            trace.call_op.astype(np.float64),
            calls.distances.T,
            calls.kept_reads.T,
            calls.kept_write,
            calls.launches,
            calls.weight_distance,
        ]
    )
    unique, first, call_row = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    table = _Table()
    for row, call in enumerate(first):
        for recipe in recipes[int(unique[row, 0])]:
            table.add(row, recipe, calls, int(call))
    return table.kernels(call_row.reshape(-1).astype(np.int64), unique[:, 0].astype(np.int64))


def single(work: Work, dtype: str) -> Kernels:
    """One kernel on its own, its inputs not in L2; for checks and for explaining one operator."""
    return column(work, dtype, distance=np.array([FAR]))


def column(work: Work, dtype: str, distance: Floats) -> Kernels:
    """Many kernels of one form, one priced row each, from columns: for tables of measurements.

    `distance` (kernels,): bytes touched since the operands were last touched. Reads must name no previous kernel.
    """
    count = len(distance)
    c, zeros, index = _columns(work, count), np.zeros(count), np.arange(count, dtype=np.int64)
    reads = np.zeros((READS, count))
    for slot, size in enumerate(c["bytes"]):
        reads[slot] = size
    numbers = {n: np.array(c[n]) for n in ("flops", "vector_flops", "exp_ops", "run_bytes", "blocks", "in_flight")}
    return Kernels(
        row=index, start=index, starts=index, start_row=index, call_row=index, op=index, workspace=zeros, dispatch=zeros + 1.0,
        name=(work.name,) * count, way=(work.name,) * count, family=(work.name,) * count, pattern=(work.pattern,) * count,
        dtype=(dtype,) * count, itemsize=zeros + ITEMSIZE[dtype], launches=zeros + 1.0,
        gemm=np.zeros((4, count)) if c["gemm"] is None else c["gemm"],
        flash=np.zeros((5, count)) if c["flash"] is None else c["flash"],
        reads=reads, distances=np.broadcast_to(distance, (READS, count)).copy(), write_bytes=np.array(c["write_bytes"]),
        **numbers,
    )  # fmt: skip


@dataclass(frozen=True)
class _Recipe:
    """One operator run in one way: its kernels as plain numbers, and the bytes that they touch together."""

    way: str
    family: str
    dtype: str
    itemsize: int
    dispatch: float
    works: tuple[dict[str, Any], ...]

    @property
    def sizes(self) -> list[float]:
        """Bytes that each kernel reads and writes."""
        return [w["write_bytes"] + sum(b for _, b in w["reads"]) for w in self.works]

    @property
    def footprint(self) -> list[float]:
        """Bytes that the call touches; then, from the kernel that touches it last to the end: its inputs 0 to 2, its output."""
        sizes = self.sizes
        last = [0] * (READS + 1)
        for i, work in enumerate(self.works):
            for slot in range(READS):
                if any(source == f"input{slot}" and read > 0 for source, read in work["reads"]):
                    last[slot] = i
            if work["final"] and work["write_bytes"] > 0:
                last[READS] = i
        return [sum(sizes), *(sum(sizes[i:]) for i in last)]

    @property
    def workspace(self) -> float:
        """Largest bytes of intermediates alive at a time: what a kernel reads of the ones before it, and what it leaves."""
        held = [float(sum(b for s, b in w["reads"] if s == "previous")) for w in self.works]
        left = [0.0 if w["final"] else float(w["write_bytes"]) for w in self.works]
        return max(h + x for h, x in zip(held, left, strict=True))


def _recipes(trace: Trace, software: Software) -> list[list[_Recipe]]:
    """For each op of the trace, one recipe per allowed way."""
    recipes: list[list[_Recipe]] = [[] for _ in trace.op_kind]
    itemsize = trace.op_itemsize()
    for name in trace.kinds:
        kind, ops = kinds()[name], trace.ops_of(name)
        ways = [w for w in kind.ways if w.allowed(software)]
        for way in ways:
            can = way.possible(trace.dims(name), itemsize[ops])
            for op, works in _evaluate(way, trace, ops[can], itemsize[ops[can]], software):
                dtype = _engine_dtype(trace.dtypes[int(trace.op_dtype[op])], getattr(software.tf32, kind.tf32))
                recipes[op].append(
                    _Recipe(way.name, f"{name}/{way.name}", dtype, int(itemsize[op]), way.dispatch, works)
                )
        if any(not recipes[op] for op in ops):
            raise ValueError(f"the software '{software.name}' allows no way to run '{name}'")
    return recipes


def _engine_dtype(dtype: str, tf32: bool) -> str:
    """The dtype whose rate applies: index and mask arithmetic (int32, int64, bool) runs at the rate of the fp32 lanes."""
    if dtype not in DTYPES:
        return "fp32"
    return "tf32" if dtype == "fp32" and tf32 else dtype


def _evaluate(
    way: Way, trace: Trace, ops: Ints, itemsize: Ints, software: Software
) -> Iterator[tuple[int, tuple[dict[str, Any], ...]]]:
    """Each of the ops (all of one kind) and its kernels, evaluated as columns once and then split into rows."""
    if len(ops):
        d = trace.dims(trace.kinds[int(trace.op_kind[ops[0]])], ops)
        columns = [_columns(work, len(ops)) for work in way.rows(d, itemsize, software)]
        for i, op in enumerate(ops):
            yield int(op), tuple(_one(c, i) for c in columns)


def _columns(work: Work, count: int) -> dict[str, Any]:
    def full(value: Any) -> Floats:
        return np.broadcast_to(np.asarray(value, dtype=np.float64), (count,))

    def tiled(view: Any) -> Floats | None:
        return None if view is None else np.stack([full(getattr(view, f.name)) for f in fields(view)])

    numbers = ("write_bytes", "flops", "vector_flops", "exp_ops", "run_bytes", "blocks", "in_flight")
    return {
        "name": work.name, "pattern": work.pattern, "final": work.final,
        "sources": [r.source for r in work.reads], "bytes": [full(r.bytes) for r in work.reads],
        "gemm": tiled(work.gemm), "flash": tiled(work.flash), **{n: full(getattr(work, n)) for n in numbers},
    }  # fmt: skip


def _one(c: dict[str, Any], i: int) -> dict[str, Any]:
    one = {
        k: (float(v[i]) if isinstance(v, np.ndarray) and v.ndim == 1 else v)
        for k, v in c.items()
        if k not in ("gemm", "flash")
    }
    one["gemm"] = None if c["gemm"] is None else c["gemm"][:, i]
    one["flash"] = None if c["flash"] is None else c["flash"][:, i]
    one["reads"] = [(s, float(b[i])) for s, b in zip(c["sources"], c["bytes"], strict=True)]
    return one


class _Table:
    """Collects kernel rows; plain lists, turned into columns once."""

    def __init__(self) -> None:
        self.lists: dict[str, list[Any]] = {f.name: [] for f in fields(Kernels)}

    def add(self, row: int, recipe: _Recipe, calls: Context, call: int) -> None:
        lists = self.lists
        lists["starts"].append(len(lists["row"]))
        lists["start_row"].append(row)
        lists["workspace"].append(recipe.workspace)
        lists["dispatch"].append(recipe.dispatch)
        for i, work in enumerate(recipe.works):
            self._add_kernel(row, recipe, i, work, calls, call)

    def _add_kernel(self, row: int, recipe: _Recipe, i: int, work: dict[str, Any], calls: Context, call: int) -> None:
        lists = self.lists
        reads, distances = np.zeros(READS), np.full(READS, FAR)
        previous = sum(source == "previous" for source, _ in work["reads"])
        for slot, (source, size) in enumerate(work["reads"]):
            reads[slot] = size * (calls.kept_reads[int(source[-1]), call] if source.startswith("input") else 1.0)
            distances[slot] = _distance(recipe, i, source, previous, calls, call)
            previous -= source == "previous"
        written = work["write_bytes"] * (calls.kept_write[call] if work["final"] else 1.0)
        busy = work["write_bytes"] > 0 or work["flops"] > 0
        values = {
            "row": row, "start": len(lists["starts"]) - 1, "name": work["name"], "way": recipe.way, "family": recipe.family,
            "pattern": work["pattern"], "dtype": recipe.dtype, "itemsize": recipe.itemsize,
            "launches": calls.launches[call] if busy else 0.0,
            "gemm": np.zeros(4) if work["gemm"] is None else work["gemm"],
            "flash": np.zeros(5) if work["flash"] is None else work["flash"],
            "reads": reads, "distances": distances, "write_bytes": written,
            **{n: work[n] for n in ("flops", "vector_flops", "exp_ops", "run_bytes", "blocks", "in_flight")},
        }  # fmt: skip
        for name, value in values.items():
            lists[name].append(value)

    def kernels(self, call_row: Ints, op: Ints) -> Kernels:
        strings = ("name", "way", "family", "pattern", "dtype")
        ints = ("row", "start", "starts", "start_row")
        stacked = ("gemm", "flash", "reads", "distances")
        columns: dict[str, Any] = {"call_row": call_row, "op": op}
        for name, values in self.lists.items():
            if name in strings:
                columns[name] = tuple(values)
            elif name in ints:
                columns[name] = np.array(values, dtype=np.int64)
            elif name not in columns:
                column = np.array(values, dtype=np.float64)
                columns[name] = np.ascontiguousarray(column.T) if name in stacked else column
        return Kernels(**columns)


def _distance(recipe: _Recipe, i: int, source: str, previous: int, calls: Context, call: int) -> float:
    """Bytes touched since the data of a read was last touched, by the kernels before it or by the calls before this one."""
    sizes = recipe.sizes
    if source == "previous":
        made = max(i - previous, 0)
        if sizes[made] > 0 or not recipe.works[made]["reads"]:
            return sum(sizes[made:i])
        # That kernel had nothing to do (a layout that needs no conversion): its source is read in its place.
        first = recipe.works[made]["reads"][0][0]
        return _distance(recipe, made, first, 1, calls, call) + sum(sizes[made:i])
    earlier = [j for j in range(i) if any(s == source and b > 0 for s, b in recipe.works[j]["reads"])]
    if earlier:
        return sum(sizes[earlier[-1] : i])
    if source == "weight":
        return float(calls.weight_distance[call])
    return float(calls.distances[int(source[-1]), call]) + sum(sizes[:i])
