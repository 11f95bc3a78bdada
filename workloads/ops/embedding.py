"""Table look-up: rows of a table gathered by index."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hwspecs.software import Software
from workloads.aten import AtenCall
from workloads.kind import Column, Dims, Ints, OpKind, Read, Way, Work

DIMS = ("rows", "cols", "table_rows")


def flops(d: Dims) -> Column:
    """No matrix FLOPs."""
    return 0 * d.rows


def rows(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
    """One kernel; the index is 8 bytes a row (torch int64)."""
    moved = itemsize * d.rows * d.cols
    return (
        Work(
            "gather", "gather", (Read("weight", moved), Read("input0", 8 * d.rows)), moved, run_bytes=itemsize * d.cols
        ),
    )


def _embedding(call: AtenCall) -> tuple[dict[str, int], tuple[Any, ...]]:
    """aten.embedding(table, index)."""
    table, index = call.args[:2]
    return {"rows": index.numel(), "cols": table.shape[1], "table_rows": table.shape[0]}, (index, table)


def torch_call(d: Mapping[str, int], dtype: str) -> Callable[[], Any]:
    """nn.functional.embedding."""
    import torch

    from workloads.dtypes import torch_dtype

    index = torch.empty(d["rows"], device="meta", dtype=torch.int64)
    table = torch.nn.Embedding(d["table_rows"], d["cols"], device="meta", dtype=torch_dtype(dtype))
    return lambda: table(index)


EXAMPLES = ({"rows": 77, "cols": 768, "table_rows": 49408},)

CAPTURE = {"aten.embedding": _embedding}

KIND = OpKind("embedding", "Embedding", DIMS, flops, (Way("gather", rows),), torch_call, EXAMPLES, capture=CAPTURE)
