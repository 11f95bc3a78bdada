"""Every operator kind keeps the contract: FLOPs, captured dims, arrays, compulsory bytes, report class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwspecs.software import Software, load
from workloads.capture import capture
from workloads.kind import ITEMSIZE, REPORT_CLASSES, Dims, OpKind, Way, Work, kinds

KINDS = kinds()
EXAMPLES = [(kind, dims) for kind in KINDS.values() for dims in kind.examples]
IDS = [f"{kind.name}-{i}" for kind in KINDS.values() for i in range(len(kind.examples))]
DTYPE = "fp16"
EAGER = load("pytorch-eager")
SOFTWARE = [
    replace(EAGER, attention=attention, fusion=fusion, convolution=replace(EAGER.convolution, layout=layout))
    for attention in ("unfused", "flash-2", "auto")
    for fusion in ("eager", "pointwise")
    for layout in ("nchw", "nhwc")
]


def columns(*rows: Mapping[str, int]) -> Dims:
    return Dims({name: np.array([row[name] for row in rows]) for name in rows[0]})


def itemsize(count: int) -> Any:
    return np.full(count, ITEMSIZE[DTYPE], dtype=np.int64)


def numbers(work: Any) -> list[Any]:
    """Every column of a Work, nested ones included."""
    if is_dataclass(work):
        return [value for f in fields(work) for value in numbers(getattr(work, f.name))]
    if isinstance(work, tuple):
        return [value for item in work for value in numbers(item)]
    return [] if isinstance(work, str | bool | type(None)) else [work]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_is_complete(kind: OpKind) -> None:
    assert kind.report_class in REPORT_CLASSES
    assert kind.ways
    assert kind.examples
    assert kind.capture
    assert len({way.name for way in kind.ways}) == len(kind.ways)
    assert all(set(example) == set(kind.dims) for example in kind.examples)


@pytest.mark.parametrize("software", SOFTWARE, ids=lambda s: f"{s.attention}-{s.fusion}-{s.convolution.layout}")
def test_every_software_has_a_way(software: Software) -> None:
    assert all(any(way.allowed(software) for way in kind.ways) for kind in KINDS.values())


@pytest.mark.parametrize(("kind", "dims"), EXAMPLES, ids=IDS)
def test_flops_equal_torch(kind: OpKind, dims: Mapping[str, int]) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    call = kind.torch_call(dims, DTYPE)
    with FlopCounterMode(display=False) as counter:
        call()
    assert np.asarray(kind.flops(columns(dims))).tolist() == [counter.get_total_flops()]


@pytest.mark.parametrize(("kind", "dims"), EXAMPLES, ids=IDS)
def test_captured_back(kind: OpKind, dims: Mapping[str, int]) -> None:
    (call,) = capture(kind.torch_call(dims, DTYPE)).calls
    expected = dict(dims)
    if dims.get("role") == 2:  # temporal is told by the module, not by one call
        expected["role"] = 0
    assert (call.kind, dict(zip(kind.dims, call.dims, strict=True)), call.dtype) == (kind.name, expected, DTYPE)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("software", SOFTWARE[::5], ids=lambda s: f"{s.attention}-{s.fusion}-{s.convolution.layout}")
def test_arrays_equal_scalars(kind: OpKind, software: Software) -> None:
    count = len(kind.examples)
    for way in kind.ways:
        stacked = numbers(way.rows(columns(*kind.examples), itemsize(count), software))
        for i, dims in enumerate(kind.examples):
            alone = numbers(way.rows(columns(dims), itemsize(1), software))
            assert [np.broadcast_to(c, count)[i] for c in stacked] == [np.broadcast_to(c, 1)[0] for c in alone]


def outside(work: tuple[Work, ...]) -> float:
    """Bytes that kernels read from outside the call, and write for its result."""
    read = sum(np.max(r.bytes) for w in work for r in w.reads if r.source != "previous")
    return float(read + sum(np.max(w.write_bytes) for w in work if w.final))


@pytest.mark.parametrize(("kind", "dims"), EXAMPLES, ids=IDS)
def test_moves_at_least_inputs_and_output(kind: OpKind, dims: Mapping[str, int]) -> None:
    """Activations and the first result, each once. (A fused q-k-v storage of which q or k use a part is left out.)"""
    traced = capture(kind.torch_call(dims, DTYPE))
    (call,) = traced.calls
    inputs = {i for i in call.inputs if not traced.tensor_is_weight[i]}
    if dims.get("q_len") != dims.get("kv_len") and len(inputs) == 1:
        inputs = set()
    least = sum(traced.tensor_bytes[i] for i in inputs) + traced.tensor_bytes[call.outputs[0]]

    def check(way: Way, software: Software) -> None:
        work = way.rows(columns(dims), itemsize(1), software)
        spared = dims.get("layout") and software.convolution.layout == "nhwc"  # channels last already: nothing to copy
        assert outside(work) >= (0 if spared else least)
        assert spared or sum(w.final and np.max(w.write_bytes) > 0 for w in work) >= 1

    for way in kind.ways:
        for software in SOFTWARE:
            check(way, software)


@settings(deadline=None, max_examples=30)
@given(
    batch=st.integers(1, 8), m=st.integers(1, 300), n=st.integers(1, 300), k=st.integers(1, 300), bias=st.integers(0, 1),
    weight=st.integers(0, 1),
)  # fmt: skip
def test_gemm_of_any_size(batch: int, m: int, n: int, k: int, bias: int, weight: int) -> None:
    kind = KINDS["gemm"]
    dims = {"batch": 1 if weight else batch, "m": m, "n": n, "k": k, "weight": weight, "bias": bias * weight}
    test_captured_back(kind, dims)
    test_flops_equal_torch(kind, dims)


@settings(deadline=None, max_examples=30)
@given(
    heads=st.integers(2, 6), group=st.integers(1, 3), q_len=st.integers(1, 90), kv_len=st.integers(1, 90),
    role=st.integers(0, 1), causal=st.integers(0, 1),
)  # fmt: skip
def test_attention_of_any_size(heads: int, group: int, q_len: int, kv_len: int, role: int, causal: int) -> None:
    dims = {
        "batch": 2, "heads": heads * group, "kv_heads": heads, "q_len": q_len, "kv_len": kv_len, "head_dim": 16,
        "causal": causal, "role": role, "interleaved": 1, "mask": 0,
    }  # fmt: skip
    test_captured_back(KINDS["attention"], dims)
    (flops,) = np.asarray(KINDS["attention"].flops(columns(dims)))
    assert flops == 4 * 2 * heads * group * q_len * kv_len * 16


def test_a_name_belongs_to_one_kind_unless_its_rules_decline() -> None:
    """elementwise and permute share copies: one takes those that change the dtype, the other those that do not."""
    seen: dict[str, list[str]] = {}
    for kind in KINDS.values():
        for name in kind.capture:
            seen.setdefault(name, []).append(kind.name)
    shared = {name: owners for name, owners in seen.items() if len(owners) > 1}
    assert shared == {"aten._to_copy": ["elementwise", "permute"], "aten.copy_": ["elementwise", "permute"]}
