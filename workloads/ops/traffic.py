"""Any operator without a model of its own, known by its bytes alone: priced as memory traffic, listed by name, never dropped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hwspecs.software import Software
from workloads.aten import ANYTHING, AtenCall, reads, size
from workloads.kind import Column, Dims, Ints, OpKind, Read, Way, Work

DIMS = ("read0", "read1", "read2", "write")


def flops(d: Dims) -> Column:
    """Unknown; counted as none."""
    return 0 * d.write


def rows(d: Dims, itemsize: Ints, software: Software) -> tuple[Work, ...]:
    """One kernel that reads its inputs and writes its outputs once."""
    reads = (Read("input0", d.read0), Read("input1", d.read1), Read("input2", d.read2))
    return (Work("traffic", "stream", reads, d.write),)


def _anything(call: AtenCall) -> tuple[dict[str, int], tuple[Any, ...]]:
    """Every operand once, every result once."""
    return {**reads(call.operands), "write": sum(map(size, call.results))}, call.operands


def torch_call(d: Mapping[str, int], dtype: str) -> Callable[[], Any]:
    """cumsum, which has no model of its own."""
    import torch

    from workloads.dtypes import torch_dtype
    from workloads.kind import ITEMSIZE

    x = torch.empty(d["read0"] // ITEMSIZE[dtype], device="meta", dtype=torch_dtype(dtype))
    return lambda: torch.cumsum(x, 0)


EXAMPLES = ({"read0": 1 << 20, "read1": 0, "read2": 0, "write": 1 << 20},)

CAPTURE = {ANYTHING: _anything}

KIND = OpKind("traffic", "Memory", DIMS, flops, (Way("traffic", rows),), torch_call, EXAMPLES, capture=CAPTURE)
