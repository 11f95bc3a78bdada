"""Every number of a device moves some result, or is listed as descriptive."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from hwspecs import device
from hwspecs.device import DTYPES, Device
from hwspecs.rates import rates
from hwspecs.spec import fields
from sim.cost import cost
from tests.build import eager, trace
from workloads.kind import kinds
from workloads.lower import lower

LIVE = [f.path for f in fields(Device) if f.numeric and not f.descriptive]


def test_every_switch_moves_a_time() -> None:
    a100 = device.load("a100-sxm-80gb")
    assert [f.path for f in fields(Device) if f.switch] == ["hbm.inline_ecc"]
    sources = {**a100.sources, "hbm.inline_ecc": "a test"}
    changed = dataclasses.replace(a100, hbm=dataclasses.replace(a100.hbm, inline_ecc=True), sources=sources)
    assert np.any(times(a100, "fp16") < times(changed, "fp16"))


def replaced(spec: Any, path: str, factor: float) -> Any:
    head, _, rest = path.partition(".")
    value = getattr(spec, head)
    return dataclasses.replace(spec, **{head: replaced(value, rest, factor) if rest else type(value)(value * factor)})


def times(spec: Device, dtype: str) -> np.ndarray[Any, Any]:
    """Every kind's examples, small and large, attention both ways."""
    ops = [(name, example) for name, kind in kinds().items() for example in kind.examples]
    priced = [cost(lower(trace(ops, dtype), eager(attention=a)), rates(spec)) for a in ("unfused", "flash-2")]
    return np.concatenate([c.time + c.gap for c in priced])


@pytest.mark.parametrize("path", [p for p in LIVE if p != "hbm.capacity"])
def test_field_moves_a_time(path: str) -> None:
    a100 = device.load("a100-sxm-80gb")
    engine, _, dtype = path.partition(".")
    if path == "tensor.fill":  # it multiplies 0 on a GPU
        a100 = dataclasses.replace(a100, tensor=dataclasses.replace(a100.tensor, fill=8.0))
    elif engine == "tensor" and dtype in DTYPES and not getattr(a100.tensor, dtype):
        has: dict[str, Any] = {dtype: 512.0}
        a100 = dataclasses.replace(a100, tensor=dataclasses.replace(a100.tensor, **has))
    if engine == "vector":  # the vector units take the products of a dtype that the matrix units lack
        lacks: dict[str, Any] = {dtype: 0.0}
        a100 = dataclasses.replace(a100, tensor=dataclasses.replace(a100.tensor, **lacks))
    priced = dtype if engine in ("tensor", "vector") and dtype in DTYPES else "fp16"
    changed = replaced(a100, path, 2 if path == "l2.partitions" else 64 if ".tile." in path else 0.25)
    assert np.any(times(a100, priced) != times(changed, priced)), f"{path} changes nothing"
