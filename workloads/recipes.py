"""Recipes: every way in which a software may run the ops of a trace, evaluated as columns over those ops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs.device import DTYPES
from hwspecs.software import Software
from workloads.context import INPUTS
from workloads.kind import Dims, Ints, OpKind, Way, Work, kinds
from workloads.trace import Trace

Floats: TypeAlias = NDArray[np.float64]
READS = 3  # reads of a kernel, at most
NUMBERS = ("write_bytes", "flops", "vector_flops", "index_ops", "exp_ops", "run_bytes", "blocks", "in_flight")
WIDE = 4  # B of an fp32 operand


@dataclass(frozen=True)
class Recipe:
    """One way to run some ops of one kind.

    Attributes:
        way, family: its name, and kind/way, the key of a calibration's coverage.
        order: of the way among those that the kind lists.
        ops: (n,) indices of the trace's ops that it can run.
        dtype: (n,) objects, the dtype whose rate applies. itemsize: (n,) bytes of an element.
        dispatch: (n,) host time of one eager call over that of the cheapest operator.
        fp32: the dtype whose rate applies to a product of fp32 operands.
        works: of each kernel in launch order, its columns (n,); see `columns`.
    """

    way: str
    family: str
    order: int
    ops: Ints
    dtype: NDArray[np.object_]
    itemsize: Ints
    dispatch: Floats
    works: tuple[dict[str, Any], ...]
    fp32: str = "fp32"

    @cached_property
    def sizes(self) -> Floats:
        """Bytes that each kernel reads and writes, (kernels, n)."""
        return np.stack([w["write_bytes"] + sum(w["bytes"]) for w in self.works])

    def read(self, kernel: int, source: str) -> Floats:
        """Bytes (n,) that one of its kernels reads of a source."""
        work = self.works[kernel]
        found = [size for name, size in zip(work["sources"], work["bytes"], strict=True) if name == source]
        return np.asarray(sum(found, np.zeros(len(self.ops))))

    @property
    def footprint(self) -> Floats:
        """Bytes touched; then, from the kernel that touches it last to the end: inputs 0 to 2, the output. (2 + INPUTS, n)."""
        rest = np.cumsum(self.sizes[::-1], axis=0)[::-1]
        tail = np.repeat(rest[:1], 2 + INPUTS, axis=0)
        for i, work in enumerate(self.works):
            for slot in range(INPUTS):
                tail[1 + slot] = np.where(self.read(i, f"input{slot}") > 0, rest[i], tail[1 + slot])
            if work["final"]:
                tail[-1] = np.where(work["write_bytes"] > 0, rest[i], tail[-1])
        return tail

    @property
    def workspace(self) -> Floats:
        """Largest bytes of intermediates alive at a time: what a kernel reads of the ones before it, and what it leaves; (n,)."""
        held = [self.read(i, "previous") for i in range(len(self.works))]
        left = [0.0 if w["final"] else w["write_bytes"] for w in self.works]
        return np.asarray(np.max([h + x for h, x in zip(held, left, strict=True)], axis=0))


def recipes(trace: Trace, software: Software) -> list[Recipe]:
    """Every allowed way for every op that it can run. Raises ValueError where the software allows none for an op."""
    found: list[Recipe] = []
    itemsize = trace.op_itemsize()
    for name in trace.kinds:
        kind, ops = kinds()[name], trace.ops_of(name)
        d, served = _dims(trace, kind, ops), np.zeros(len(ops), dtype=bool)
        names = [_engine_dtype(t, getattr(software.tf32, kind.tf32)) for t in trace.dtypes]
        for order, way in enumerate(kind.ways):
            can = np.asarray(way.possible(d, itemsize[ops]))
            if not (way.allowed(software) and can.any()):
                continue
            served |= can
            here = ops[can]
            works = way.rows(_dims(trace, kind, here), itemsize[here], software)
            dtype = np.array(names, dtype=object)[trace.op_dtype[here]]
            made = tuple(columns(work, len(here)) for work in works)
            found.append(
                Recipe(
                    way.name, f"{name}/{way.name}", order, here, dtype, itemsize[here], _dispatch(way, made, len(here)), made,
                    _engine_dtype("fp32", getattr(software.tf32, kind.tf32)),
                )
            )  # fmt: skip
        if not served.all():
            raise ValueError(f"the software '{software.name}' allows no way to run '{name}'")
    return found


def _dispatch(way: Way, works: Sequence[dict[str, Any]], count: int) -> Floats:
    """Host time of each op run in a way, (count,), over that of the cheapest operator."""
    streams = sum(w["write_bytes"] > 0 for w in works if w["pattern"] == "stream")
    return way.dispatch + way.streams * np.broadcast_to(np.asarray(streams, dtype=np.float64), (count,))


def _dims(trace: Trace, kind: OpKind, ops: Ints) -> Dims:
    """Dimensions of some ops, whether they are of fp16, and the kind's flags: what their labels say."""
    fp16 = np.array([name == "fp16" for name in trace.dtypes])[trace.op_dtype[ops]]
    said = [kind.flags(label) for label in trace.labels]
    flags = {name: np.array([of[name] for of in said])[trace.op_label[ops]] for name in (said[0] if said else ())}
    return trace.dims(kind.name, ops).extended(fp16=fp16, **flags)


def footprints(known: Sequence[Recipe], ops: int) -> Floats:
    """Of the way of each op that touches fewest bytes (the first listed of equals), (ops, 2 + INPUTS); see Recipe.footprint."""
    least = np.full((ops, 2 + INPUTS), np.inf)
    for recipe in known:
        footprint = recipe.footprint.T
        less = footprint[:, 0] < least[recipe.ops, 0]
        least[recipe.ops[less]] = footprint[less]
    return least


def columns(work: Work, count: int) -> dict[str, Any]:
    """A kernel's numbers as float64 columns (count,), `bytes` one for each of its `sources`, `gemm` and `flash` (dims, count)."""

    def full(value: Any) -> Floats:
        return np.broadcast_to(np.asarray(value, dtype=np.float64), (count,))

    def tiled(view: Any) -> Floats | None:
        return None if view is None else np.stack([full(getattr(view, f.name)) for f in fields(view)])

    return {
        "name": work.name, "pattern": work.pattern, "final": work.final,
        "sources": [r.source for r in work.reads], "bytes": [full(r.bytes) for r in work.reads],
        "gemm": tiled(work.gemm), "flash": tiled(work.flash), "fp32": full(work.fp32) == 1,
        "part_ops": full(work.part_ops),
        **{n: full(getattr(work, n)) for n in NUMBERS},
    }  # fmt: skip


def _engine_dtype(dtype: str, tf32: bool) -> str:
    """The dtype whose rate applies: index and mask arithmetic (int32, int64, bool) runs at the rate of the fp32 lanes."""
    if dtype not in DTYPES:
        return "fp32"
    return "tf32" if dtype == "fp32" and tf32 else dtype
