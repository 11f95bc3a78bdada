"""The views of traces as tables: CSV files, text, and JSON (keys: docs/traces.md), one trace beside the other."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from workloads.kind import Ints
from workloads.ops.attention import ROLES
from workloads.quantities import column, plain
from workloads.trace import Trace
from workloads.views import (
    Attention,
    Intensity,
    Period,
    attention,
    histogram,
    intensities,
    matrix_bytes_per_pass,
    period,
)

SCHEMA_VERSION = 1  # of the JSON
FEW = 10  # FLOP/B below which a decimal is shown
HEADS = {
    "attention_calls": (
        "setting", "component", "call", "first_run", "runs", "role", "batch", "heads", "q_len", "kv_len", "matrix_bytes",
    ),
    "sequence_length": (
        "setting", "runs", "shortest", "longest", "period_calls", "periods", "period_first_run", "period_last_run",
    ),
    "sequence_histogram": ("setting", "q_len", "runs"),
    "similarity_memory": ("setting", "component", "pass_bytes", "largest_call_bytes"),
    "arithmetic_intensity": (
        "setting", "component", "flops", "weight_bytes", "traffic_unfused_bytes", "traffic_flash_2_bytes",
        "study_flop_per_byte", "traffic_unfused_flop_per_byte", "traffic_flash_2_flop_per_byte",
    ),
}  # fmt: skip  # file -> columns; bytes are B, flops FLOP


@dataclass(frozen=True)
class View:
    """One trace and what is shown of it; `setting` is what tells it from the ones beside it, '' where there are none."""

    setting: str
    trace: Trace

    @cached_property
    def attention(self) -> Attention:
        """Its attention calls."""
        return attention(self.trace)

    @cached_property
    def lengths(self) -> Ints:
        """Queries of every attention call of one inference, in order."""
        return self.attention.over_inference(self.attention.q_len)

    @cached_property
    def period(self) -> Period | None:
        """Of the lengths."""
        return period(self.lengths)

    @cached_property
    def intensities(self) -> list[Intensity]:
        """By component, then of all."""
        return intensities(self.trace)


def rows(views: Sequence[View]) -> dict[str, list[tuple[Any, ...]]]:
    """Name of each table -> its rows, in the order of HEADS."""
    makers = {
        "attention_calls": _calls, "sequence_length": _lengths, "sequence_histogram": _histogram,
        "similarity_memory": _memory, "arithmetic_intensity": _intensity,
    }  # fmt: skip
    return {
        name: [(v.setting or v.trace.model, *row) for v in views for row in make(v)] for name, make in makers.items()
    }


def _calls(view: View) -> Iterator[tuple[Any, ...]]:
    a = view.attention
    columns = (a.call, a.first, a.repeats, a.role, a.batch, a.heads, a.q_len, a.kv_len, a.matrix_bytes)
    for component, *values in zip(a.component.tolist(), *(c.tolist() for c in columns), strict=True):
        yield (a.components[component], *values[:3], ROLES[values[3]], *values[4:])


def _lengths(view: View) -> Iterator[tuple[Any, ...]]:
    lengths, p = view.lengths, view.period
    if len(lengths):
        found = (p.calls, p.times, p.start, p.stop - 1) if p else (None,) * 4
        yield (len(lengths), int(lengths.min()), int(lengths.max()), *found)


def _histogram(view: View) -> Iterable[tuple[Any, ...]]:
    return histogram(view.attention).items()


def _memory(view: View) -> Iterator[tuple[Any, ...]]:
    a = view.attention
    for name, size in matrix_bytes_per_pass(a).items():
        yield name, size, int(a.matrix_bytes[a.component == a.components.index(name)].max())


def _intensity(view: View) -> Iterator[tuple[Any, ...]]:
    for r in view.intensities:
        yield (r.name, r.flops, r.weight_bytes, *r.traffic_bytes, r.of_study, *r.of_traffic)


def to_csv(name: str, found: Sequence[tuple[Any, ...]]) -> str:
    """A table as CSV; what there is none of is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADS[name])
    writer.writerows([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in found)
    return out.getvalue()


def to_json(views: Sequence[View]) -> dict[str, Any]:
    """Every table as a list of objects."""
    tables = {name: [dict(zip(HEADS[name], row, strict=True)) for row in found] for name, found in rows(views).items()}
    return {"schema_version": SCHEMA_VERSION, "model": views[0].trace.model, **tables}


def text(views: Sequence[View]) -> str:
    """The tables for a terminal: lengths and period, histogram, memory, of those that have attention; intensity."""
    found = rows(views)
    if not found["attention_calls"]:
        return f"No attention: no sequence lengths, no similarity matrices\n\n{_intensity_text(found)}"
    return "\n\n".join((_lengths_text(found), _histogram_text(views), _memory_text(found), _intensity_text(found)))


def _lengths_text(found: dict[str, list[tuple[Any, ...]]]) -> str:
    cells = [
        (r[0], f"{r[1]:,}", r[2], r[3], *(("none", "") if r[4] is None else (r[4], f"{r[5]:,}")))
        for r in found["sequence_length"]
    ]
    heads = ("", "attention calls", "shortest", "longest", "period, calls", "periods")
    return f"Sequence length (queries) over the attention calls of one inference\n{_table(cells, heads)}"


def _histogram_text(views: Sequence[View]) -> str:
    counts = [histogram(v.attention) for v in views]
    lengths = sorted(set().union(*counts))
    cells = [(f"{n}", *(f"{c[n]:,}" if n in c else "" for c in counts)) for n in lengths]
    heads = ("sequence length", *(v.setting or "attention calls" for v in views))
    return f"Attention calls of one inference by sequence length\n{_table(cells, heads)}"


def _memory_text(found: dict[str, list[tuple[Any, ...]]]) -> str:
    names, ones, largest = _columns(found["similarity_memory"], (2, 3))
    (a, one), (b, call) = column(ones, "M", 1), column(largest, "M", 1)
    heads = ("", "component", f"one pass, {a}B", f"largest call, {b}B")
    cells = [(*name, *sizes) for name, *sizes in zip(names, one, call, strict=True)]
    return f"Similarity matrices, as unfused attention keeps them\n{_table(cells, heads, 'll')}"


def _intensity_text(found: dict[str, list[tuple[Any, ...]]]) -> str:
    rows = found["arithmetic_intensity"]
    names, flops, weights = _columns(rows, (2, 3))
    (a, done), (b, held) = column(flops, "T", 2), column(weights, "G", 2)
    ratios = [[flop_per_byte(value) for value in r[6:]] for r in rows]
    cells = [(*n, x, y, *ratio) for n, x, y, ratio in zip(names, done, held, ratios, strict=True)]
    heads = (
        "",
        "component",
        f"{a}FLOP",
        f"weights, {b}B",
        "FLOP / B of weights",
        "of traffic, unfused",
        "of traffic, flash-2",
    )
    title = "Arithmetic intensity: FLOPs of one inference over the bytes of the model (the study), and over what kernels move"
    return f"{title}\n{_table(cells, heads, 'll')}"


def flop_per_byte(value: float) -> str:
    """An intensity in FLOP/B as a text."""
    return plain(value, 0 if value >= FEW else 1)


def _columns(
    rows: Sequence[tuple[Any, ...]], at: tuple[int, int]
) -> tuple[list[tuple[Any, ...]], list[Any], list[Any]]:
    """Setting and component of each row, and two of its columns."""
    return [r[:2] for r in rows], [r[at[0]] for r in rows], [r[at[1]] for r in rows]


def _table(cells: Sequence[Sequence[Any]], heads: Sequence[str], left: str = "l") -> str:
    from tabulate import tabulate

    sides = ["left"] * len(left) + ["right"] * (len(heads) - len(left))
    return str(
        tabulate(cells, headers=heads, tablefmt="simple", disable_numparse=True, colalign=sides if cells else ())
    )
