"""Capture of a user's modules: FLOPs by torch's count, the ways to run one, unknown operators, roles, the Python call."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula

import framecast
from hwspecs.errors import SpecError
from tests.workloads import own_nets
from workloads import capture_run
from workloads import trace as traces
from workloads.capture_inputs import TensorSpec
from workloads.capture_run import Example, run
from workloads.ops.attention import ROLES
from workloads.trace import Trace
from workloads.unpriced import unpriced

X = TensorSpec((4, own_nets.WIDTH), "fp32")


def counted(module: nn.Module, inputs: dict[str, Any]) -> int:
    """torch's own count of a forward on the meta device."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.eval().to("meta")(**{n: x.to("meta") if isinstance(x, torch.Tensor) else x for n, x in inputs.items()})
    return int(counter.get_total_flops())


def unet() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import UNet2DConditionModel

    module = UNet2DConditionModel(
        sample_size=16, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=24, attention_head_dim=4,
        norm_num_groups=8, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    text = torch.empty(2, 7, 24)
    return module, {"sample": torch.empty(2, 4, 16, 16), "timestep": torch.tensor(1), "encoder_hidden_states": text}


def autoencoder() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(block_out_channels=(16, 32), norm_num_groups=8, **blocks), {
        "sample": torch.empty(1, 3, 32, 32)
    }


def clip() -> tuple[nn.Module, dict[str, Any]]:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
    )
    return CLIPTextModel(config), {"input_ids": torch.zeros(2, 12, dtype=torch.int64)}


def layer() -> tuple[nn.Module, dict[str, Any]]:
    return nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), {"src": torch.empty(2, 12, 32)}


@pytest.mark.parametrize("make", [unet, autoencoder, clip, layer, own_nets.video], ids=lambda f: f.__name__)
def test_flops_and_parameters_equal_torchs_count(make: Callable[[], tuple[nn.Module, dict[str, Any]]]) -> None:
    module, inputs = make()
    trace = framecast.capture(module, inputs)
    assert trace.parameters == sum(p.numel() for p in module.parameters())
    assert next(module.parameters()).device.type == "cpu"  # the module itself is left as it is
    assert module.training is type(module)(**{}).training if isinstance(module, own_nets.Video) else True
    assert trace.flops() == counted(module, inputs) > 0


WAYS = {
    "Inner": (None, ["aten.addmm", "aten.relu"]),
    "StaysOnCpu": ("fake tensors", ["aten.addmm", "aten.ones", "aten.add"]),
    "Looks": ("real run", ["aten.addmm", "aten.abs", "aten.sum", "aten.add"]),
    "Picks": ("real run", ["aten.addmm", "aten.sum", "aten.lt", "aten.index"]),
    "HalfLinear": ("real run", ["aten.scaled_dot_product_attention", "aten._fused_rms_norm", "aten.isnan", "aten.any",
                                "aten.addmm"]),
    "Plain": (None, ["aten.addmm", "aten.addmm", "aten.add"]),
}  # fmt: skip


def example(name: str, **more: Any) -> Example:
    return Example(
        "net", lambda: (own_nets.Outer(getattr(own_nets, name)()), ((X,), {})), more.pop("assume", {}), **more
    )


@pytest.mark.parametrize("name", WAYS)
def test_ways_to_run_a_module_record_the_same_and_say_which(name: str) -> None:
    way, labels = WAYS[name]
    found = run(example(name))
    if name == "HalfLinear":
        assert [c.label for c in found.calls if "isnan" not in c.label][:2] == labels[:2]
        assert sum(c.kind == "attention" for c in found.calls) == 1
    else:
        assert [c.label for c in found.calls] == labels
    assert all(way in note and "net.blocks.0" in note for note in found.assumed) if way else found.assumed == ()
    assert len(found.assumed) == bool(way)
    assert found.parameters == own_nets.WIDTH * (own_nets.WIDTH + 1)  # tied weights once


def test_meta_fake_and_real_runs_hold_the_same_calls() -> None:
    def passes() -> Iterator[Any]:
        for way, limit in (("meta", None), ("fake", None), ("real", 1 << 30)):
            yield capture_run._tried(Example("net", lambda: _inputs_as_kwargs(own_nets.video()), {}), way, [], limit)

    meta, fake, real = passes()
    assert meta.calls == fake.calls == real.calls
    assert meta.tensor_bytes == fake.tensor_bytes == real.tensor_bytes


def _inputs_as_kwargs(made: tuple[Any, Any]) -> tuple[Any, Any]:
    return made[0], ((), made[1])


def test_answers_in_place_of_values_are_notes() -> None:
    looks = run(example("Looks", assume={"aten._local_scalar_dense": 2e9}))
    assert [c.label for c in looks.calls][-1] == "aten.mul"
    assert looks.assumed == ("net: aten._local_scalar_dense taken as 2000000000.0, 1 times",)
    picks = run(example("Picks", assume={"aten.nonzero": "all"}))
    assert picks.assumed == ("net: aten.nonzero taken as all, 1 times",)
    assert picks.tensor_bytes[picks.calls[-1].outputs[0]] == 4 * own_nets.WIDTH * 4


@pytest.fixture(scope="module")
def library() -> Iterator[None]:
    """Custom operators: with a meta kernel and a formula, with a meta kernel, and without one."""
    lib = torch.library.Library("ownlib", "DEF")
    for name in ("known", "unknown", "bare"):
        lib.define(f"{name}(Tensor x, Tensor w) -> Tensor")
        lib.impl(name, lambda x, w: x @ w, "CPU")
        if name != "bare":
            lib.impl(name, lambda x, w: x.new_empty(x.shape[0], w.shape[1]), "Meta")
    formula = register_flop_formula(torch.ops.ownlib.known)
    formula(lambda x, w, **_: 2 * x[0] * x[1] * w[1])
    yield
    lib._destroy()


class Custom(own_nets.Inner):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return getattr(torch.ops.ownlib, self.name)(self.lin(x), self.lin.weight)


@pytest.mark.usefixtures("library")
def test_operators_without_a_cost_model_are_listed_with_their_shares() -> None:
    x, width = torch.empty(4, own_nets.WIDTH), own_nets.WIDTH
    product, moved = 2 * 4 * width * width, 4 * (4 * width + width * width + 4 * width)
    trace = framecast.capture(Custom("known"), x, repeats=3)
    (one,) = unpriced(trace)
    assert (one.label, one.calls, one.bytes, one.flops) == ("ownlib.known", 3, 3 * moved, 3 * product)
    assert one.flop_share == 0.5  # beside a linear layer of the same size
    assert one.byte_share == pytest.approx(moved / (2 * moved + 4 * width))  # the linear layer has a bias too
    (other,) = unpriced(framecast.capture(Custom("unknown"), x))
    assert (other.flops, other.flop_share, other.byte_share) == (None, None, one.byte_share)
    assert unpriced(framecast.capture(own_nets.Inner(), x)) == []


@pytest.mark.usefixtures("library")
def test_a_custom_operator_without_a_meta_kernel_runs_for_real_or_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = torch.ones(4, own_nets.WIDTH)
    trace = framecast.capture(Custom("bare"), x)
    assert [u.label for u in unpriced(trace)] == ["ownlib.bare"]
    assert "real run" in trace.notes[0]
    monkeypatch.setattr(capture_run, "SMALL", 0)
    with pytest.raises(SpecError, match=r"ownlib\.bare has no kernel for tensors without values; register one"):
        framecast.capture(Custom("bare"), x)
    assert framecast.capture(Custom("bare"), x, real=True).calls == 2


@pytest.mark.parametrize("odd", [
    lambda x: torch.fft.fft(x).real, lambda x: x.sort().values, lambda x: torch.linalg.qr(x)[0], lambda x: x.topk(2)[0],
    lambda x: torch.bucketize(x, x[0]), lambda x: x.cumsum(0), lambda x: torch.histc(x) if not x.is_meta else x.cumprod(0),
])  # fmt: skip
def test_odd_operators_are_never_dropped(odd: Callable[[torch.Tensor], torch.Tensor]) -> None:
    class Odd(nn.Module):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return odd(x)

    trace = framecast.capture(Odd(), torch.empty(8, 8))
    found = unpriced(trace)
    assert found
    assert all(u.bytes > 0 for u in found)
    assert sum(u.calls for u in found) <= trace.calls


def roles(trace: Trace) -> dict[str, str]:
    at = trace.call_kind() == trace.kinds.index("attention")
    names = [trace.paths[i] for i in trace.call_path[at]]
    return {n: ROLES[r] for n, r in zip(names, trace.dims("attention", trace.call_op[at]).role.tolist(), strict=True)}


def test_roles_follow_the_axis_not_the_name() -> None:
    trace = framecast.capture(own_nets.video, name="net", dims={"frames": 9, "pixels": 9})
    expected = {"net.spatial": "self", "net.text": "cross", "net.motion": "self", "net.over": "temporal"}
    assert roles(trace) == expected
    (note,) = trace.notes
    assert note.startswith(
        "net.motion: sounds temporal, taken as self-attention (its length does not follow the frames)"
    )


def test_roles_can_be_corrected_and_the_last_pattern_counts() -> None:
    given = {"net.*": "cross", "net.mot*": "temporal", "net.spatial": "spatial"}
    trace = framecast.capture(own_nets.video, name="net", dims={"frames": 2}, corrections=given)
    assert list(roles(trace).values()) == ["self", "cross", "temporal", "cross"]
    assert trace.notes == ()


def test_without_frames_temporal_attention_is_not_guessed() -> None:
    trace = framecast.capture(*own_nets.video(), name="net")
    assert roles(trace)["net.over"] == "self"
    assert [note for note in trace.notes if "no dimension is named frames" in note]


def test_flops_of_spatial_attention_are_linear_and_of_temporal_quadratic_in_frames() -> None:
    def flops(frames: int) -> dict[str, int]:
        trace = framecast.capture(own_nets.video, name="net", dims={"frames": frames})
        ops = trace.op_flops()
        return {trace.paths[p]: int(ops[o]) for p, o in zip(trace.call_path, trace.call_op, strict=True)}

    few, many = flops(3), flops(12)
    assert many["net.spatial"] == 4 * few["net.spatial"]
    assert many["net.over"] == 16 * few["net.over"]


def test_a_trace_of_a_file_keeps_its_notes(tmp_path: Path) -> None:
    trace = framecast.capture(own_nets.Looks(), torch.ones(4, own_nets.WIDTH), name="net", repeats=7)
    framecast.save_trace(trace, tmp_path / "net.trace")
    back = traces.load(tmp_path / "net.trace")
    assert (back.notes, back.segments) == (trace.notes, trace.segments)
    assert "real run" in back.notes[0]


@pytest.mark.parametrize(("arguments", "text"), [
    ({"repeats": 0}, "repeats: found 0, expected a whole number of at least 1"),
    ({"dims": {"a": 0}}, "dims: a: found 0, expected a whole number of at least 1"),
    ({"corrections": {"*": "both"}}, "corrections: *: found 'both', expected one of self, cross, temporal, spatial, none"),
    ({"assume": {"aten.sort": 1}}, "assume: aten.sort: no answer is known for this operator (allowed: "
     "aten.nonzero, aten._local_scalar_dense)"),
])  # fmt: skip
def test_wrong_arguments_are_value_errors(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        framecast.capture(own_nets.Inner(), torch.empty(4, own_nets.WIDTH), **arguments)


def test_what_is_no_module_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"found int, expected an nn\.Module"):
        framecast.capture(3, torch.empty(1))
    with pytest.raises(TypeError, match="a function returns its module's inputs itself"):
        framecast.capture(own_nets.linear, torch.empty(1))


def test_an_error_names_the_innermost_module_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError) as error:
        run(example("Raises"))
    assert error.value.problems == (r"net.blocks.0: the module raises KeyError: 'no such key\nin two lines'",)
    monkeypatch.setattr(capture_run, "SMALL", 0)
    with pytest.raises(SpecError) as error:
        run(example("Picks"))
    (line,) = error.value.problems
    assert line.startswith("net.blocks.0: the operator aten.index needs the values of a tensor")
    assert "assume: {aten.nonzero: all}" in line
    assert "ask for it with --real" in line


def test_a_real_run_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_run, "_free", lambda: 1000.0)
    with pytest.raises(SpecError, match=r"a real run is refused: 0\.00134 MB of weights and inputs, of 0\.001 MB"):
        run(example("Looks", real=True))
    monkeypatch.setattr(capture_run, "_free", lambda: 1500.0)  # weights and inputs are 1344 B
    with pytest.raises(SpecError, match=r"its tensors pass 0\.0015 MB; ask for smaller dimensions"):
        run(example("Looks", real=True))


class Mixed(own_nets.Inner):
    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device or x.device.type, dtype=torch.bfloat16):
            return self.lin(x)


@pytest.mark.parametrize("device", ["", "cpu", "cuda"])
def test_mixed_precision_is_not_lost(device: str) -> None:
    before = torch.amp.autocast_mode.autocast.__init__
    trace = framecast.capture(Mixed(device), torch.empty(4, own_nets.WIDTH))
    (product,) = trace.ops_of("gemm")
    assert trace.dtypes[trace.op_dtype[product]] == "bf16"
    assert "fake tensors" in trace.notes[0]
    assert torch.amp.autocast_mode.autocast.__init__ is before


def test_a_module_that_cannot_be_copied_runs_for_real_or_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    module, x = own_nets.Inner(), torch.empty(4, own_nets.WIDTH)
    module.lock = threading.Lock()
    assert "cannot be copied" in framecast.capture(module, x).notes[0]
    monkeypatch.setattr(capture_run, "SMALL", 0)
    with pytest.raises(
        SpecError, match=r"module: the module cannot be copied .*; capture a function that builds it instead"
    ):
        framecast.capture(module, x)


def test_torchscript_is_refused_in_one_line() -> None:
    with pytest.raises(SpecError, match=r"a TorchScript module hides its operators; capture the nn\.Module"):
        framecast.capture(torch.jit.script(nn.Linear(2, 2)), torch.empty(1, 2))
