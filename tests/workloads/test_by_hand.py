"""Attention written by hand: what is recognised, what only looks like it, how it is priced, corrected and said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import framecast
from hwspecs.errors import SpecError
from sim.result import call_class
from tests.workloads.own_nets import WIDTH, Attend
from workloads import by_hand, formats
from workloads import trace as traces
from workloads.cli import summary
from workloads.kind import REPORT_CLASSES
from workloads.lower import lower
from workloads.ops.attention import DIMS, ROLES
from workloads.trace import Trace
from workloads.views import attention

HEADS, HEAD = 4, 8


class Written(nn.Module):  # type: ignore[misc]
    """softmax(Q K^T / sqrt(d) + mask) V with the products written out, in one of several styles."""

    def __init__(self, style: str = "matmul", width: int = HEADS * HEAD, context: int = 0) -> None:
        super().__init__()
        self.style = style
        self.q, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.k, self.v = (nn.Linear(context or width, width) for _ in range(2))

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None, mask: Any = None) -> torch.Tensor:
        source = x if context is None else context
        q, k, v = (
            f(y).unflatten(-1, (HEADS, HEAD)).transpose(1, 2)
            for f, y in ((self.q, x), (self.k, source), (self.v, source))
        )
        return self.out(getattr(self, f"_{self.style}")(q, k, v, mask).transpose(1, 2).flatten(2))

    def _matmul(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any) -> torch.Tensor:
        scores = q @ k.mT * HEAD**-0.5
        scores = scores if mask is None else scores + mask
        return torch.dropout(scores.float().softmax(-1).to(q.dtype), 0.1, False) @ v

    def _einsum(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, _: Any) -> torch.Tensor:
        p = torch.einsum("bhqd,bhkd->bhqk", q, k).mul_(HEAD**-0.5).softmax(-1)
        return torch.einsum("bhqk,bhkd->bhqd", p, v)

    def _baddbmm(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, _: Any) -> torch.Tensor:
        flat = [y.flatten(0, 1) for y in (q, k, v)]
        empty = torch.empty(len(flat[0]), q.shape[2], k.shape[2], dtype=q.dtype, device=q.device)
        p = torch.baddbmm(empty, flat[0], flat[1].mT, beta=0, alpha=HEAD**-0.5).softmax(-1)
        return torch.bmm(p, flat[2]).unflatten(0, q.shape[:2])

    def _transposed(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, _: Any) -> torch.Tensor:
        """As VQGAN has it: the output is V^T P^T."""
        p = (q @ k.mT).softmax(-1)
        return (v.mT @ p.mT).mT


class Net(nn.Module):  # type: ignore[misc]
    """One attention at `attn`."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.attn = inner

    def forward(self, *args: Any, **known: Any) -> Any:
        return self.attn(*args, **known)


def net(style: str = "matmul", **known: Any) -> nn.Module:
    return Net(Written(style, **known)).half()


X = torch.empty(2, 20, HEADS * HEAD, dtype=torch.float16)


def only(trace: Trace) -> dict[str, int]:
    """The dims of the one attention of a trace."""
    (found,) = by_hand.in_trace(trace)
    return dict(zip(DIMS, found[1].dims, strict=True))


@pytest.mark.parametrize("style", ["matmul", "einsum", "baddbmm", "transposed"])
def test_every_way_of_writing_it_is_recognised(style: str) -> None:
    found = only(framecast.capture(net(style), (X,)))
    assert found["batch"] * found["heads"] == 2 * HEADS
    assert (found["q_len"], found["kv_len"], found["head_dim"]) == (20, 20, HEAD)
    assert (found["role"], found["mask"]) == (ROLES.index("self"), 0)
    if style != "transposed":  # whose output is copied on its way to the layer that tells the heads
        assert (found["batch"], found["heads"]) == (2, HEADS)


def test_keys_of_a_context_are_cross_and_a_mask_is_counted() -> None:
    text, mask = torch.empty(2, 7, 24, dtype=torch.float16), torch.empty(1, 1, 20, 7, dtype=torch.float16)
    found = only(framecast.capture(net(context=24), {"x": X, "context": text, "mask": mask}))
    assert (found["q_len"], found["kv_len"], found["role"], found["mask"]) == (20, 7, ROLES.index("cross"), 20 * 7 * 2)


@pytest.mark.parametrize("upcast", [False, True])
def test_attention_of_diffusers_without_the_fused_processor(upcast: bool) -> None:
    from diffusers.models.attention_processor import Attention, AttnAddedKVProcessor, AttnProcessor

    module = Attention(32, 24, heads=4, dim_head=8, upcast_softmax=upcast, processor=AttnProcessor()).half()
    text = torch.empty(2, 7, 24, dtype=torch.float16)
    found = only(framecast.capture(Net(module), {"hidden_states": X, "encoder_hidden_states": text}))
    assert (found["heads"], found["q_len"], found["kv_len"], found["mask"]) == (4, 20, 7, 0)
    assert found["role"] == ROLES.index("cross")
    added = Attention(
        32,
        32,
        heads=4,
        dim_head=8,
        added_kv_proj_dim=24,
        norm_num_groups=8,
        bias=True,
        processor=AttnAddedKVProcessor(),
    ).half()  # as DeepFloyd's and Imagen's: keys of text and image together
    image = torch.empty(2, 32, 4, 4, dtype=torch.float16)
    found = only(framecast.capture(Net(added), {"hidden_states": image, "encoder_hidden_states": text}))
    assert (found["q_len"], found["kv_len"]) == (16, 16 + 7)


def test_eager_attention_of_transformers() -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        attn_implementation="eager",
    )  # fmt: skip
    ids = torch.zeros(2, 12, dtype=torch.int64)
    trace = framecast.capture(BertModel(config), {"input_ids": ids})
    assert [path for path, _ in trace.by_hand] == [f"module.encoder.layer.{i}.attention.self" for i in (0, 1)]
    assert trace.flops() == framecast.capture(BertModel(config), {"input_ids": ids}, by_hand="fused").flops()


class GlobalContext(nn.Module):  # type: ignore[misc]
    """Positions weighted by a softmax, as GCNet's: one product, whose weights come from a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.out = nn.Conv2d(WIDTH, 1, 1), nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.score(x).flatten(2).softmax(-1).mT
        return x + self.out((x.flatten(2) @ weights)[..., None])


class LinearAttention(nn.Module):  # type: ignore[misc]
    """Softmaxes over queries and keys, none over their product."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.softmax(-1) @ (x.softmax(1).mT @ x)


class ByDistance(nn.Module):  # type: ignore[misc]
    """A softmax over scores that no product made."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (-(x[:, :, None] - x[:, None]).abs().sum(-1)).softmax(-1) @ x


@pytest.mark.parametrize(
    ("module", "shape"),
    [(GlobalContext(), (2, WIDTH, 4, 4)), (LinearAttention(), (2, 9, WIDTH)), (ByDistance(), (2, 9, WIDTH))],
    ids=lambda x: type(x).__name__,
)
def test_what_only_resembles_it_is_left_alone(module: nn.Module, shape: tuple[int, ...]) -> None:
    trace = framecast.capture(module, (torch.empty(shape),))
    assert (trace.by_hand, by_hand.found([]), trace.notes) == ((), [], ())


def test_it_is_said_and_counts_as_attention() -> None:
    trace = framecast.capture(net(), (X,), name="net")
    (note,) = trace.notes
    assert note == (
        "net.attn: attention written by hand, by its dataflow (1 a pass, up to 20 x 20 scores); priced as the kernels that "
        "it is written in; by_hand: fused prices attention calls, and a correction to none says that it is no attention"
    )
    classes = np.array(REPORT_CLASSES)[call_class(trace)]
    kinds = [trace.kinds[k] for k in trace.call_kind()]
    assert [k for k, c in zip(kinds, classes, strict=True) if c == "Attention"].count("gemm") == 2
    assert list(classes).count("Linear") == 4
    (listed,) = summary(trace)["components"][0]["attention"]
    assert (listed["role"], listed["heads"], listed["q_len"]) == ("self", HEADS, 20)
    assert attention(trace).q_len.tolist() == [20]


def test_fused_it_is_one_attention_call(software: Any) -> None:
    written, fused = (framecast.capture(net(), (X,), by_hand=how) for how in ("as-written", "fused"))
    assert written.flops() == fused.flops()
    assert fused.by_hand == ()
    assert [fused.labels[fused.op_label[op]] for op in fused.ops_of("attention")] == [by_hand.LABEL]
    assert "softmax" not in fused.kinds
    names = [set(lower(trace, software).name) for trace in (written, fused)]
    assert "flash attention" not in names[0]
    assert "flash attention" in names[1]
    unfused = set(lower(fused, replace(software, attention="unfused")).name)
    assert {"q k^t", "softmax", "p v"} <= unfused


@pytest.fixture
def software() -> Any:
    from hwspecs.software import load

    return load("pytorch-eager")


def frames(frames: int = 4) -> Any:
    return net(), {"x": torch.empty(9, frames, HEADS * HEAD, dtype=torch.float16)}


def test_torchs_module_that_returns_its_weights_is_written_by_hand_inside() -> None:
    layer, x = nn.MultiheadAttention(32, 4, batch_first=True), torch.empty(2, 5, 32)
    found = only(framecast.capture(layer, (x, x, x)))
    assert (found["heads"], found["q_len"], found["kv_len"]) == (4, 5, 5)


def test_over_frames_it_is_temporal() -> None:
    assert framecast.capture(frames, dims={"frames": 4}, name="net").by_hand == (("net.attn", "temporal"),)
    fused = framecast.capture(frames, dims={"frames": 4}, by_hand="fused")
    assert fused.dims("attention").role.tolist() == [ROLES.index("temporal")]


def test_corrections_give_a_role_or_say_that_it_is_none() -> None:
    known: dict[str, Any] = {"name": "net"}
    trace = framecast.capture(net(), (X,), corrections={"net.attn": "cross"}, **known)
    assert (trace.by_hand, only(trace)["role"]) == ((("net.attn", "cross"),), ROLES.index("cross"))
    none = framecast.capture(net(), (X,), corrections={"*.attn": "none"}, by_hand="fused", **known)
    assert (none.by_hand, none.notes) == ((), ())
    assert "attention" not in none.kinds
    with pytest.raises(SpecError, match="no attention is at this module path"):
        framecast.capture(net(), (X,), corrections={"net.other": "none"}, **known)


def test_torchs_own_attention_cannot_be_none() -> None:
    x = torch.empty(2, 5, 32)
    with pytest.raises(SpecError, match="calls torch's attention; only what is written by hand can be none"):
        framecast.capture(Attend(), (x, x, x), corrections={"*": "none"})


def test_an_unknown_way_of_pricing_it_is_refused() -> None:
    wrong: Any = "flash"
    with pytest.raises(ValueError, match="by_hand: found 'flash', expected as-written or fused"):
        framecast.capture(net(), (X,), by_hand=wrong)


@pytest.mark.parametrize("name", ["net.trace", "net.npz", "net.parquet", "net.et"])
def test_files_keep_it(name: str, tmp_path: Path) -> None:
    trace = framecast.capture(net(), (X,), name="net")
    path = tmp_path / name
    if name.endswith(".trace"):
        traces.save(trace, path)
        again = traces.load(path)
    else:
        formats.save(trace, path)
        again = formats.load(path)
    assert (again.by_hand, again.notes) == (trace.by_hand, trace.notes)
    assert only(again) == only(trace)
