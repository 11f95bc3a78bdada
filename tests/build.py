"""Small traces and rates for tests, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hwspecs import device, software
from hwspecs.rates import Rates, rates
from hwspecs.software import Software
from workloads.kind import kinds
from workloads.lower import Kernels, lower
from workloads.trace import Segment, Trace


def trace(ops: Sequence[tuple[str, Mapping[str, int]]], dtype: str = "fp16", repeats: int = 1) -> Trace:
    """A trace of one segment in which every op is called once, and reads what nobody wrote."""
    names = tuple(sorted({kind for kind, _ in ops}))
    width = max(len(kinds()[k].dims) for k in names)
    dims = np.zeros((len(ops), width), dtype=np.int64)
    for i, (kind, values) in enumerate(ops):
        for j, name in enumerate(kinds()[kind].dims):
            dims[i, j] = values[name]
    count = len(ops)
    index = np.arange(count, dtype=np.int64)
    return Trace(
        model="test",
        request={},
        kinds=names,
        dtypes=(dtype,),
        labels=("test",),
        paths=("test",),
        op_kind=np.array([names.index(k) for k, _ in ops], dtype=np.int64),
        op_dtype=np.zeros(count, dtype=np.int64),
        op_dims=dims,
        op_label=np.zeros(count, dtype=np.int64),
        call_op=index,
        call_path=np.zeros(count, dtype=np.int64),
        call_in_attention=np.zeros(count, dtype=bool),
        input_offsets=np.arange(0, 3 * count + 1, 3, dtype=np.int64),
        input_ids=np.arange(3 * count, dtype=np.int64),
        output_offsets=np.arange(count + 1, dtype=np.int64),
        output_ids=np.arange(3 * count, 4 * count, dtype=np.int64),
        tensor_bytes=np.full(4 * count, 1 << 20, dtype=np.int64),
        tensor_is_weight=np.zeros(4 * count, dtype=bool),
        segments=(Segment("all", "all", 0, count, repeats, 0, 0),),
    )


def eager(**changes: Any) -> Software:
    """pytorch-eager with some fields changed."""
    import dataclasses

    return dataclasses.replace(software.load("pytorch-eager"), **changes)


def kernels(ops: Sequence[tuple[str, Mapping[str, int]]], dtype: str = "fp16", **changes: Any) -> Kernels:
    """Lowered under pytorch-eager."""
    return lower(trace(ops, dtype), eager(**changes))


def a100() -> Rates:
    """The default device of the tests."""
    return rates(device.load("a100-sxm-80gb"))
