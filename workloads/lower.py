"""Lower a trace to kernel rows: every way in which a call may run under a software, each kernel with its bytes and reuse.

A *priced row* is an operator together with what its calls have in common: how long ago its inputs were last touched (which
decides what is still in L2) and which of its reads and writes a fusing compiler removed. Calls that agree share a row.
Nothing here depends on a device: distances are in bytes, and `sim.traffic` holds them against a capacity.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.software import Software
from workloads.context import Context, context
from workloads.kind import ITEMSIZE, Flash, Ints, Work
from workloads.recipes import NUMBERS, READS, WIDE, Recipe, columns, footprints, recipes
from workloads.trace import Trace

Floats: TypeAlias = NDArray[np.float64]
FUSED = len(fields(Flash))
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
    flash: Floats  # (9, kernels): groups, q_len, kv_len, head_dim, causal, rows, keys, depth, older
    flops: Floats
    vector_flops: Floats
    index_ops: Floats
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
    """Kernel rows of a trace under a software.

    Raises ValueError when the software allows no way to run a kind, SpecError as `Trace.check_flops`.
    """
    trace.check_flops()
    known = recipes(trace, software)
    calls = context(trace, footprints(known, len(trace.op_kind)), software.fusion == "pointwise")
    keys = np.column_stack(
        [
            trace.call_op.astype(np.float64),
            calls.distances.T,
            calls.kept_reads.T,
            calls.kept_write,
            calls.launches,
            calls.weight_distance,
            calls.parts,
        ]
    )
    unique, first, call_row = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    op = unique[:, 0].astype(np.int64)
    blocks, ways = [], []
    for recipe in known:
        where = np.full(len(trace.op_kind), -1)
        where[recipe.ops] = np.arange(len(recipe.ops))
        rows = np.flatnonzero(where[op] >= 0)
        at, call = where[op[rows]], first[rows]
        ways.append(
            {
                "row": rows,
                "order": np.full(len(rows), recipe.order),
                "workspace": recipe.workspace[at],
                "dispatch": recipe.dispatch[at],
            }
        )
        for i in range(len(recipe.works)):
            blocks.append({"row": rows, **_block(recipe, i, at, calls, call)})
    return _assembled(blocks, ways, call_row.reshape(-1).astype(np.int64), op)


def single(work: Work, dtype: str) -> Kernels:
    """One kernel on its own, its inputs not in L2; for checks and for explaining one operator."""
    return column(work, dtype, distance=np.array([FAR]))


def column(work: Work, dtype: str, distance: Floats) -> Kernels:
    """Many kernels of one form, one priced row each, from columns: for tables of measurements.

    `distance` (kernels,): bytes touched since the operands were last touched. Reads must name no previous kernel.
    """
    count = len(distance)
    c, zeros, index = columns(work, count), np.zeros(count), np.arange(count, dtype=np.int64)
    reads = np.zeros((READS, count))
    for slot, size in enumerate(c["bytes"]):
        reads[slot] = size
    numbers = {n: np.array(c[n]) for n in NUMBERS if n != "write_bytes"}
    return Kernels(
        row=index, start=index, starts=index, start_row=index, call_row=index, op=index, workspace=zeros, dispatch=zeros + 1.0,
        name=(work.name,) * count, way=(work.name,) * count, family=(work.name,) * count, pattern=(work.pattern,) * count,
        dtype=(dtype,) * count, itemsize=zeros + ITEMSIZE[dtype], launches=zeros + 1.0,
        gemm=np.zeros((4, count)) if c["gemm"] is None else c["gemm"],
        flash=np.zeros((FUSED, count)) if c["flash"] is None else c["flash"],
        reads=reads, distances=np.broadcast_to(distance, (READS, count)).copy(), write_bytes=np.array(c["write_bytes"]),
        **numbers,
    )  # fmt: skip


def _block(recipe: Recipe, i: int, at: Ints, calls: Context, call: Ints) -> dict[str, Any]:
    """Columns of the i-th kernel of a recipe for some rows: the op of each is `at` in the recipe, its first call `call`."""
    work, count = recipe.works[i], len(at)
    reads, distances = np.zeros((READS, count)), np.full((READS, count), FAR)
    previous = work["sources"].count("previous")
    for slot, (source, size) in enumerate(zip(work["sources"], work["bytes"], strict=True)):
        kept = calls.kept_reads[int(source[-1]), call] if source.startswith("input") else 1.0
        reads[slot] = size[at] * kept
        distances[slot] = _distance(recipe, i, source, previous, at, calls, call)
        previous -= source == "previous"
    busy = (work["write_bytes"][at] > 0) | (work["flops"][at] > 0)
    wide = work["fp32"][at]
    texts = {"name": work["name"], "way": recipe.way, "family": recipe.family, "pattern": work["pattern"]}
    return {
        "order": np.full(count, recipe.order), "launch": np.full(count, i),
        "itemsize": np.where(wide, float(WIDE), recipe.itemsize[at]),
        "dtype": np.where(wide, recipe.fp32, recipe.dtype[at]).astype(object),
        **{n: np.full(count, text, dtype=object) for n, text in texts.items()},
        "launches": calls.launches[call] * busy,
        "gemm": np.zeros((4, count)) if work["gemm"] is None else work["gemm"][:, at],
        "flash": np.zeros((FUSED, count)) if work["flash"] is None else work["flash"][:, at],
        "reads": reads, "distances": distances,
        "write_bytes": work["write_bytes"][at] * (calls.kept_write[call] if work["final"] else 1.0),
        **{n: work[n][at] for n in NUMBERS if n not in ("write_bytes", "index_ops")},
        # What runs inside another call's kernel overlaps with that kernel's way through memory.
        "index_ops": (work["index_ops"][at] + work["part_ops"][at] * calls.parts[call]) * calls.launches[call],
    }  # fmt: skip


def _distance(recipe: Recipe, i: int, source: str, previous: int, at: Ints, calls: Context, call: Ints) -> Floats:
    """Bytes touched since the data of a read was last touched, by the kernels before it or by the calls before this one."""
    sizes = recipe.sizes[:, at]
    if source == "previous":
        made = max(i - previous, 0)
        since: Floats = sizes[made:i].sum(axis=0)
        idle = sizes[made] == 0
        if not idle.any() or not recipe.works[made]["sources"]:
            return since
        # That kernel had nothing to do (a layout that needs no conversion): its source is read in its place.
        first = recipe.works[made]["sources"][0]
        return np.where(idle, _distance(recipe, made, first, 1, at, calls, call) + since, since)
    own = sizes[:i].sum(axis=0)
    found = calls.weight_distance[call] if source == "weight" else calls.distances[int(source[-1]), call] + own
    for j in range(i):
        read = recipe.read(j, source)[at] > 0
        found = np.where(read, sizes[j:i].sum(axis=0), found)
    return found


def _assembled(blocks: list[dict[str, Any]], ways: list[dict[str, Any]], call_row: Ints, op: Ints) -> Kernels:
    """Kernels sorted by row, way, launch order, from the columns of each recipe."""
    c = {name: np.concatenate([block[name] for block in blocks], axis=-1) for name in blocks[0]}
    by_launch = np.lexsort((c.pop("launch"), c["order"], c["row"]))
    c = {name: np.ascontiguousarray(column[..., by_launch]) for name, column in c.items()}
    w = {name: np.concatenate([way[name] for way in ways]) for name in ways[0]}
    by_way = np.lexsort((w["order"], w["row"]))
    order = c.pop("order")
    numbers: dict[str, Any] = {name: tuple(v) if v.dtype == object else v for name, v in c.items()}
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = (c["row"][1:] != c["row"][:-1]) | (order[1:] != order[:-1])
    return Kernels(
        start=np.cumsum(begins) - 1, starts=np.flatnonzero(begins), start_row=w["row"][by_way],
        workspace=w["workspace"][by_way], dispatch=w["dispatch"][by_way], call_row=call_row, op=op,
        **numbers,
    )  # fmt: skip
