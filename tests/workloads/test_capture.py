"""What capture records of small modules: kinds, order, tensor ids, paths, roles, refusals."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import prod
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from hwspecs.errors import SpecError
from workloads.aten import run_bytes, size
from workloads.capture import CapturedPass, assemble, capture

META: dict[str, Any] = {"device": "meta", "dtype": torch.float16}


def empty(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, **META)


class SelfAttention(nn.Module):  # type: ignore[misc]
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.qkv = nn.Linear(32, 96, **META)
        self.q, self.k, self.v = (nn.Linear(32, 32, **META) for _ in range(3))

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        context = x if context is None else context
        parts = self.qkv(x).chunk(3, -1) if self.fused else (self.q(x), self.k(context), self.v(context))
        q, k, v = (part.view(part.shape[0], -1, 2, 16).transpose(1, 2) for part in parts)
        return F.scaled_dot_product_attention(q * 1.5, F.layer_norm(k, (16,)), v).transpose(1, 2).flatten(2)


def kinds_of(traced: CapturedPass) -> list[str]:
    return [call.kind for call in traced.calls]


def role(traced: CapturedPass) -> int:
    (call,) = (c for c in traced.calls if c.kind == "attention")
    return call.dims[7]


def test_views_launch_nothing() -> None:
    x = empty(4, 6)
    views = [
        x.view(24),
        x.t(),
        x.expand(4, 6),
        x[1:],
        x.unbind(0),
        x.split(2),
        x.permute(1, 0),
        x.detach(),
        x.squeeze(),
    ]
    assert views
    traced = capture(
        lambda: [x.view(24), x.t(), x[1:], x.unbind(0), x.split(2), x.detach(), x.unsqueeze(0), x.chunk(2)]
    )
    assert traced.calls == ()


def test_allocations_launch_nothing_and_fills_write_only() -> None:
    x = empty(4, 6)
    traced = capture(lambda: (torch.empty_like(x), x.new_empty(3), torch.zeros_like(x)))
    (call,) = traced.calls
    assert (call.kind, call.dims, call.inputs) == ("elementwise", (24, 0, 0, 0, 48, 0), ())


def test_self_attention_by_dataflow() -> None:
    assert role(capture(SelfAttention(fused=False), (empty(1, 5, 32),))) == 0
    assert role(capture(SelfAttention(fused=True), (empty(1, 5, 32),))) == 0


def test_cross_attention_by_dataflow() -> None:
    assert role(capture(SelfAttention(fused=False), (empty(1, 5, 32), empty(1, 7, 32)))) == 1


def test_attention_is_one_call_inside_torchs_own_functions() -> None:
    module, x = nn.MultiheadAttention(64, 4, batch_first=True, **META), empty(2, 9, 64)
    traced = capture(module, (x, x, x), {"need_weights": False})
    (call,) = (c for c in traced.calls if c.kind == "attention")
    assert call.dims == (2, 4, 4, 9, 9, 16, 0, 0, 1, 0)
    assert F.scaled_dot_product_attention.__module__ != "workloads.capture"


@pytest.mark.parametrize(
    "call",
    [
        lambda q: F.scaled_dot_product_attention(q, q, q, None, 0.0, True),
        lambda q: F.scaled_dot_product_attention(query=q, key=q, value=q, is_causal=True),
    ],
)
def test_causal_by_position_or_name(call: Callable[[Any], Any]) -> None:
    (attention,) = capture(lambda: call(empty(1, 2, 9, 16))).calls
    assert attention.dims == (1, 2, 2, 9, 9, 16, 1, 0, 0, 0)


def test_the_result_of_attention_is_laid_out_by_length() -> None:
    out: list[torch.Tensor] = []
    capture(lambda: out.append(F.scaled_dot_product_attention(*(empty(2, 4, 9, 16) for _ in range(3)))))
    assert out[0].shape == (2, 4, 9, 16)
    assert out[0].transpose(1, 2).is_contiguous()


def test_a_mask_is_read() -> None:
    q = empty(1, 2, 9, 16)
    traced = capture(lambda: F.scaled_dot_product_attention(q, q, q, torch.zeros(9, 9, **META)))
    assert kinds_of(traced) == ["elementwise", "attention"]
    assert traced.calls[1].inputs[-1] == traced.calls[0].outputs[0]


def test_attention_modules_by_class_name() -> None:
    class DownBlockWithAttention(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.attn1 = SelfAttention(fused=False)
            self.out = nn.Linear(32, 32, **META)

        def forward(self, x: torch.Tensor) -> Any:
            return self.out(self.attn1(x)) + x

    traced = capture(DownBlockWithAttention(), (empty(1, 5, 32),), path="unet")
    assert {c.path: c.in_attention for c in traced.calls} == {
        "unet.attn1.q": True, "unet.attn1.k": True, "unet.attn1.v": True, "unet.attn1": True, "unet.out": False,
        "unet": False,
    }  # fmt: skip


def test_ids_follow_storages_and_weights_come_last() -> None:
    layer, x = nn.Linear(8, 8, **META), empty(2, 8)
    traced = capture(nn.Sequential(layer, nn.ReLU(inplace=True), layer), (x,))
    first, relu, second = traced.calls
    assert traced.module_inputs == (first.inputs[0],)
    assert relu.inputs == relu.outputs == first.outputs
    assert second.inputs[0] == first.outputs[0]
    assert second.inputs[1:] == first.inputs[1:]
    assert [traced.tensor_is_weight[i] for i in first.inputs] == [False, True, True]
    assert [traced.tensor_bytes[i] for i in first.inputs] == [32, 128, 16]
    assert (traced.parameters, traced.weight_bytes) == (72, 144)


def test_baddbmm_without_beta_reads_no_addend() -> None:
    a, b, c = empty(2, 3, 4), empty(2, 4, 5), empty(2, 3, 5)
    without, plus = (capture(lambda beta=beta: torch.baddbmm(c, a, b, beta=beta)).calls[0] for beta in (0, 1))
    assert (without.kind, without.dims, len(without.inputs)) == ("gemm", (2, 3, 5, 4, 0, 0), 2)
    assert (plus.dims, len(plus.inputs)) == ((2, 3, 5, 4, 0, 1), 3)


def test_a_transposed_convolution_has_its_flops() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from workloads.kind import Dims, kinds

    module, x = nn.ConvTranspose2d(8, 16, 4, 2, 1, **META), empty(1, 8, 5, 5)
    with FlopCounterMode(display=False) as counter:
        module(x)
    (call,) = capture(module, (x,)).calls
    dims = Dims(dict(zip(kinds()["conv"].dims, call.dims, strict=True)))
    assert int(kinds()["conv"].flops(dims)) == counter.get_total_flops()


@pytest.mark.parametrize(
    ("call", "dims"),
    [
        (lambda x: torch.cat([x, x + 1]), (48, 48, 0, 96, 0, 0)),
        (lambda x: x.t().contiguous(), (48, 0, 0, 48, 2, 1)),
        (lambda x: F.pad(x, (1, 1)), (48, 0, 0, 64, 0, 0)),
        (lambda x: x.repeat(2, 1), (48, 0, 0, 96, 0, 0)),
        (lambda x: x.index_select(0, torch.empty(2, dtype=torch.int64, device="meta")), (24, 16, 0, 24, 12, 0)),
    ],
)
def test_copies(call: Callable[[Any], Any], dims: tuple[int, ...]) -> None:
    x = empty(4, 6)
    (moved,) = (c for c in capture(lambda: call(x)).calls if c.kind == "permute")
    assert moved.dims == dims


def test_casts_are_arithmetic_and_broadcast_operands_count_once() -> None:
    x, row = empty(4, 6), empty(6)
    cast, add, square, power = capture(lambda: (x.float(), x + row, x**2, x**0.7)).calls
    assert (cast.kind, cast.dims) == ("elementwise", (24, 48, 0, 0, 96, 0))
    assert (add.kind, add.dims) == ("elementwise", (24, 48, 12, 0, 48, 0))
    assert (square.dims[-1], power.dims[-1]) == (0, 1)
    (expanded,) = capture(lambda: x + row.expand(4, 6)).calls
    assert expanded.dims == add.dims


def test_unknown_operators_are_traffic() -> None:
    (call,) = capture(lambda: empty(4, 6).cumsum(0)).calls
    assert (call.kind, call.label, call.dims) == ("traffic", "aten.cumsum", (48, 0, 0, 48))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: x.sum().item(), "aten._local_scalar_dense"),
        (lambda x: x.nonzero(), "aten.nonzero"),
        (lambda x: x[x > 0], "aten.index"),
        (lambda x: x.tolist(), "aten._to_copy"),
    ],
)
def test_needs_values(call: Callable[[Any], Any], name: str) -> None:
    class Masked(nn.Module):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> Any:
            return call(x)

    with pytest.raises(SpecError) as refused:
        capture(nn.Sequential(Masked()), (empty(4),), path="decoder")
    assert str(refused.value) == (
        f"decoder.0: the operator {name} needs the values of a tensor, which a capture on the meta device does not have; "
        "pass an argument that avoids it (for a mask: None), or replace that module"
    )


def test_nothing_stays_after_a_failure() -> None:
    original, module = F.scaled_dot_product_attention, nn.Sequential(nn.Linear(4, 4, **META))
    with pytest.raises(RuntimeError):
        capture(module, (empty(2, 5),))
    assert F.scaled_dot_product_attention is original
    assert not module[0]._forward_hooks
    assert not module[0]._forward_pre_hooks


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_runs_of_permuted_tensors(shape: list[int], random: Any) -> None:
    """The run is what a walk through the result in order finds at consecutive addresses, from the start."""
    order = list(range(len(shape)))
    random.shuffle(order)
    source = torch.arange(prod(shape), dtype=torch.int16).view(shape).permute(order)
    walk = source.reshape(-1).tolist()
    ahead = next((i for i, (a, b) in enumerate(pairwise(walk), 1) if b != a + 1), len(walk))
    found = run_bytes(source, source.contiguous())
    assert found == (0 if ahead == len(walk) else 2 * ahead)
    assert size(source) == 2 * prod(shape)
    assert size(source.unsqueeze(0).expand(3, *source.shape)) == 2 * prod(shape)


def test_assemble_shares_operators_and_separates_tensors() -> None:
    once = capture(nn.Sequential(nn.Linear(8, 8, **META), nn.Linear(8, 8, **META)), (empty(2, 8),))
    trace = assemble("m", {}, [("a", "net", 1, once), ("b", "net", 3, once)])
    assert (len(trace.op_kind), trace.calls) == (1, 4)
    assert [(s.start, s.stop, s.repeats, s.parameters) for s in trace.segments] == [(0, 2, 1, 144), (2, 4, 3, 144)]
    assert trace.flops() == 4 * 2 * (2 * 2 * 8 * 8)
    assert trace.parameters == 144
    assert trace.inputs(1)[0] == trace.outputs(0)[0]
    assert set(trace.inputs(0)).isdisjoint(trace.inputs(2))
