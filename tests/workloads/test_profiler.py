"""PyTorch Profiler timelines against torch itself: the profiler's own files, and our capture of the same module."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from torch.utils.flop_counter import FlopCounterMode

from tests.workloads.timelines import Block, by_hand, inputs, profiled, seconds, with_kernels
from workloads import formats
from workloads.capture import CapturedPass, capture
from workloads.formats.events import read
from workloads.formats.profiler import CPU, GPU, Measured, load, notes, to_csv
from workloads.formats.rows import calls_of


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A timeline of a Block."""
    return profiled(tmp_path_factory.mktemp("profiler") / "block.json")


@pytest.fixture(scope="module")
def found(path: Path) -> Measured:
    """The same, read."""
    return load(path)


@pytest.fixture(scope="module")
def captured() -> CapturedPass:
    """Our own capture of a Block."""
    return capture(Block().to("meta"), inputs("meta"))


def test_same_operators_as_a_capture(found: Measured, captured: CapturedPass) -> None:
    ours = [(c.kind, c.dtype, c.dims, c.label, c.in_attention) for c in captured.calls]
    assert [(c.kind, c.dtype, c.dims, c.label, c.in_attention) for c in calls_of(found.trace)] == ours
    assert found.trace.parameters == captured.parameters
    assert found.trace.weight_bytes == captured.weight_bytes
    assert not found.unknown


def test_flops_are_those_of_torchs_counter(found: Measured) -> None:
    with FlopCounterMode(display=False) as counter:
        Block().to("meta")(*inputs("meta"))
    assert found.trace.flops() == counter.get_total_flops()


def test_as_much_is_read_and_written_as_in_a_capture(found: Measured, captured: CapturedPass) -> None:
    trace = found.trace
    for i, call in enumerate(captured.calls):
        assert len(trace.inputs(i)) == len(call.inputs)
        assert trace.tensor_is_weight[trace.inputs(i)].tolist() == [captured.tensor_is_weight[t] for t in call.inputs]
        theirs, ours = trace.tensor_bytes[trace.outputs(i)], [captured.tensor_bytes[t] for t in call.outputs]
        assert sorted(theirs.tolist()) == sorted(ours)


def test_paths_are_modules(found: Measured) -> None:
    paths = [c.path for c in calls_of(found.trace)]
    assert {p.partition(".")[0] for p in paths} == {"Block_0"}
    assert paths[0] == "Block_0.Conv2d_0"
    assert [p for p in paths if "Attention_0.Linear" in p] == [f"Block_0.Attention_0.Linear_{i}" for i in range(4)]


def test_a_trace_without_kernels_is_timed_on_the_cpu(found: Measured) -> None:
    assert found.clock == CPU
    assert found.seconds.min() >= 0
    assert 0 < found.seconds.sum() < 60
    assert not found.kernels.any()


def test_compressed(path: Path, tmp_path: Path, found: Measured) -> None:
    packed = tmp_path / "block.json.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert calls_of(load(packed).trace) == calls_of(found.trace)
    assert formats.load(packed).model == "block"


def test_without_modules_the_operators_are_the_same(tmp_path: Path, found: Measured) -> None:
    bare = load(profiled(tmp_path / "bare.json", with_stack=False, with_modules=False))
    ours = [(c.kind, c.dims) for c in calls_of(found.trace)]
    assert [(c.kind, c.dims) for c in calls_of(bare.trace)] == ours
    assert bare.trace.parameters == found.trace.parameters
    assert bare.trace.paths == ("",)


def test_steps_are_segments_that_share_weights(tmp_path: Path, found: Measured) -> None:
    stepped = load(profiled(tmp_path / "steps.json", steps=2))
    assert [(s.name, s.repeats) for s in stepped.trace.segments] == [("step_1", 1), ("step_2", 1)]
    assert stepped.trace.flops() == 2 * found.trace.flops()
    assert stepped.trace.parameters == found.trace.parameters
    one = found.trace.calls
    assert [c.dims for c in calls_of(stepped.trace)[:one]] == [c.dims for c in calls_of(stepped.trace)[one:]]


@pytest.mark.parametrize(
    "drop", [(), ("correlation",), ("External id",)], ids=["both", "external id alone", "correlation alone"]
)
def test_kernels_belong_to_the_call_that_launched_them(path: Path, tmp_path: Path, drop: tuple[str, ...]) -> None:
    timed = load(with_kernels(path, tmp_path / "gpu.json", drop))
    assert timed.clock == GPU
    assert not timed.unattributed
    data = json.loads((tmp_path / "gpu.json").read_text())["traceEvents"]
    assert timed.seconds.sum() == pytest.approx(sum(e["dur"] for e in data if e.get("cat") == "kernel") * 1e-6)
    label = [c.label for c in calls_of(timed.trace)]
    assert timed.seconds[label.index("aten.silu")] == pytest.approx(1e-6 * len("aten::silu"))
    inner = seconds("aten::_scaled_dot_product_flash_attention_for_cpu")
    assert timed.seconds[label.index("aten.scaled_dot_product_attention")] == pytest.approx(inner)
    assert timed.seconds[label.index("aten.convolution")] == pytest.approx(seconds("aten::mkldnn_convolution"))
    copied, normed = label.index("aten.clone"), label.index("aten.native_layer_norm")
    assert timed.seconds[copied] == pytest.approx(seconds("aten::copy_"))  # of the input, inside the norm
    assert timed.seconds[normed] == pytest.approx(seconds("aten::native_layer_norm"))
    assert timed.kernels.min() >= 1


def test_kernels_that_nobody_launched_are_named(path: Path, tmp_path: Path) -> None:
    timed = load(with_kernels(path, tmp_path / "stray.json", stray=True))
    assert timed.unattributed == {"Memcpy HtoD": pytest.approx(5e-6)}
    assert notes(timed) == ["0.005 ms of kernels belong to no operator: Memcpy HtoD 5.0 us"]


def test_an_unknown_operator_is_traffic_and_named(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(by_hand()))
    timed = load(path)
    assert timed.unknown == {"mylib::fused_norm": 1}
    (call,) = (c for c in calls_of(timed.trace) if c.kind == "traffic")
    assert (call.label, call.dims, call.dtype) == ("mylib.fused_norm", (2 * 64 * 32, 0, 0, 2 * 64 * 32), "fp16")
    assert notes(timed) == ["operators without a model, taken as memory traffic: mylib::fused_norm 1"]
    assert np.allclose(timed.seconds, [4e-6, 7e-6])
    assert timed.trace.flops() == 2 * 64 * 32 * 16


def test_csv_has_every_call(found: Measured) -> None:
    lines = to_csv(found).splitlines()
    assert lines[0] == "call,segment,path,label,kind,dtype,dims,kernels,time_s"
    assert len(lines) == 1 + found.trace.calls
    assert lines[1].startswith("0,timeline,Block_0.Conv2d_0,aten.convolution,conv,fp32,n=2 c=4 k=32 groups=1 ")


def test_nesting_is_by_time_within_a_thread(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(by_hand()))
    assert [o.parent for o in read(path).operators] == [-1, -1, 1]
