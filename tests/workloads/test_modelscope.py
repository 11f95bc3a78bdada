"""ModelScope text-to-video: published sizes, torch's counters, temporal attention by its axis, exact laws in frames."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hwspecs.errors import SpecError
from hwspecs.spec import build, wrap
from workloads.cache import captured_now
from workloads.capture import CapturedCall, CapturedPass
from workloads.model import find
from workloads.ops.attention import ROLES
from workloads.parametric import captured, missing, over_frames
from workloads.temporal import with_temporal
from workloads.trace import Trace, same

MODEL = "modelscope-t2v"
# The UNet's published 1.41 B; the text encoder is Stable Diffusion 2's; the decoder Stable Diffusion 1.5's.
PARAMETERS = {"text_encoder": 340_387_840, "unet": 1_411_233_860, "vae_decoder": 49_490_199}
SIDE, COUNTS = 128, (2, 5, 16, 24)


def request(**fields: Any) -> Any:
    return find(MODEL).request(**{"height": SIDE, "width": SIDE, **fields})


@pytest.fixture(scope="module")
def traces(shared_cache: Path) -> dict[int, Trace]:
    """Captured at every count, none computed."""
    assert shared_cache.exists()
    return {frames: captured_now(MODEL, request(frames=frames)) for frames in COUNTS}


def attention_flops(trace: Trace, segment: str) -> Counter[str]:
    (found,) = (s for s in trace.segments if s.name == segment)
    ops = [op for op in trace.call_op[found.start : found.stop] if trace.kinds[trace.op_kind[op]] == "attention"]
    total: Counter[str] = Counter()
    for op in ops:
        total[ROLES[trace.op_dims[op][7]]] += int(trace.op_flops()[op])
    return total


@pytest.mark.parametrize("index", range(3), ids=list(PARAMETERS))
def test_parameters_and_flops_equal_torch(traces: dict[int, Trace], index: int) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    stage = find(MODEL).stages(request(frames=5))[index]
    module = stage.build().eval()
    args, kwargs = stage.inputs()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*args, **kwargs)
    found, trace = traces[5].segments[index], traces[5]
    assert found.parameters == sum(p.numel() for p in module.parameters()) == PARAMETERS[stage.name]
    assert int(trace.op_flops()[trace.call_op[found.start : found.stop]].sum()) == counter.get_total_flops()


def test_total_is_about_the_published_one_point_seven_billion(traces: dict[int, Trace]) -> None:
    assert traces[16].parameters == sum(PARAMETERS.values())
    assert traces[16].parameters == pytest.approx(1.7e9, rel=0.07)  # the published figure, to two digits


def test_attention_flops_are_linear_and_quadratic_in_frames(traces: dict[int, Trace]) -> None:
    per_count = {frames: attention_flops(trace, "unet") for frames, trace in traces.items()}
    assert {f["self"] / frames for frames, f in per_count.items()} == {per_count[2]["self"] / 2}
    assert {f["cross"] / frames for frames, f in per_count.items()} == {per_count[2]["cross"] / 2}
    assert {f["temporal"] / frames**2 for frames, f in per_count.items()} == {per_count[2]["temporal"] / 4}


def test_a_frame_count_equal_to_another_extent_confuses_nothing(traces: dict[int, Trace]) -> None:
    """At 128 x 128 the levels have 256, 64, 16 and 4 positions, at 16 frames, 16 of which one is a level's."""
    for trace in traces.values():
        unet = trace.segments[1]
        ops = trace.call_op[unet.start : unet.stop]
        roles = Counter(int(trace.op_dims[op][7]) for op in ops if trace.kinds[trace.op_kind[op]] == "attention")
        assert {ROLES[role]: n for role, n in roles.items()} == {"self": 16, "cross": 16, "temporal": 34}


def test_attention_of_text_encoder_and_decoder_is_self_attention(traces: dict[int, Trace]) -> None:
    assert set(attention_flops(traces[5], "text_encoder")) == set(attention_flops(traces[5], "vae_decoder")) == {"self"}


def test_temporal_convolutions_and_permutes_are_in_the_trace(traces: dict[int, Trace]) -> None:
    trace = traces[5]
    conv = trace.dims("conv")
    temporal = [(int(t), int(s)) for t, s in zip(conv.taps, conv.spatial_dims, strict=True) if s == 3]
    assert temporal
    assert set(temporal) == {(3, 3)}
    calls = [
        c
        for c in range(trace.calls)
        if trace.kinds[trace.call_kind()[c]] == "permute" and "temp_attentions" in trace.paths[trace.call_path[c]]
    ]
    moved = trace.dims("permute", trace.call_op[calls])
    assert len(calls) >= 2 * 16
    assert (moved.read0 == moved.write).all()
    assert 2 in moved.run  # bytes: one fp16 value, where channels become the innermost axis


@pytest.mark.parametrize("templates", [True, False], ids=["templates", "three-captures"])
def test_frame_counts_are_what_a_capture_gives(
    templates: bool, traces: dict[int, Trace], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def known(_model: str, request: Any) -> Trace:
        asked.append(request.frames)
        return traces[request.frames]

    if not templates:
        monkeypatch.setattr("workloads.parametric.carried", lambda *_: False)
        monkeypatch.setattr("workloads.parametric.trace_of", known)
    for count, trace in zip(COUNTS, over_frames(MODEL, request(), COUNTS), strict=True):
        assert trace.request == traces[count].request
        assert trace.segments == traces[count].segments
        assert same(trace, traces[count]), count
    assert asked == ([] if templates else [2, 5, 24])


def test_a_single_frame_is_captured_and_repeats_follow_the_request(shared_cache: Path) -> None:
    assert shared_cache.exists()
    assert captured([64, 1, 8, 4, 2, 32]) == [1, 2, 4, 64]
    assert captured([3, 1]) == [1, 3]
    assert missing(MODEL, request(), COUNTS) == 0
    sliced = list(over_frames(MODEL, request(height=64, width=64, vae_slicing=True), [1, 2, 3, 5, 9]))
    assert [[s.repeats for s in t.segments] for t in sliced] == [[2, 50, f] for f in (1, 2, 3, 5, 9)]
    assert len({t.segments[1].stop for t in sliced[1:]}) == 1
    assert sliced[0].segments[1].stop < sliced[1].segments[1].stop  # a single frame needs no copies


def test_counts_that_lie_on_no_line_are_captured(monkeypatch: pytest.MonkeyPatch, traces: dict[int, Trace]) -> None:
    asked = []

    def odd(model: str, request: Any) -> Trace:
        assert model == MODEL
        asked.append(request.frames)
        trace = traces[5]
        return replace(trace, op_dims=trace.op_dims + request.frames**2, request={"frames": request.frames})

    monkeypatch.setattr("workloads.parametric.carried", lambda *_: False)
    monkeypatch.setattr("workloads.parametric.trace_of", odd)
    assert [t.request["frames"] for t in over_frames(MODEL, request(), [2, 3, 4, 9])] == [2, 3, 4, 9]
    assert sorted(asked) == [2, 3, 4, 9]


def test_joint_attention_is_not_temporal() -> None:
    """Longer than there are frames: space and time in one sequence. The same sequence and batch: neither."""

    def a_pass(*attention: tuple[int, int]) -> CapturedPass:
        calls = [
            CapturedCall("attention", "fp16", (b, 2, 2, q, q, 64, 0, 0, 1, 0), "", "", True, (), ())
            for b, q in attention
        ]
        return CapturedPass(tuple(calls), (), (), (), 0, 0)

    marked = with_temporal(a_pass((64, 4), (4, 64), (1, 256), (4, 4)), a_pass((64, 3), (3, 64), (1, 192), (3, 4)), 4)
    assert [ROLES[c.dims[7]] for c in marked.calls] == ["temporal", "self", "self", "self"]
    with pytest.raises(ValueError, match="shorter"):
        with_temporal(a_pass((64, 4)), a_pass(), 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"height": 250}, "test: request.height: found 250, expected a multiple of 8; nearest: 248, 256"),
        ({"frames": 0}, "test: request.frames: found '0', expected a whole number of at least 1 and at most 262144"),
        (
            {"frame": 8},
            "test: request.frame: unknown field; did you mean 'frames'? "
            "(allowed: height, width, frames, batch, steps, guidance, dtype, vae_slicing, images, vae_tile, cache)",
        ),
    ],
)
def test_refuses(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as refused:
        build(find(MODEL).request, wrap(given, "test"), at="request")
    assert str(refused.value) == message


def test_takes_sizes_whose_latent_does_not_halve_evenly() -> None:
    from workloads.capture import capture

    _, unet, decoder = find(MODEL).stages(request(height=72, width=56, frames=2, guidance=False))
    for stage, elements in ((unet, 4 * 2 * 9 * 7), (decoder, 3 * 2 * 72 * 56)):
        traced = capture(stage.build(), *stage.inputs())
        assert traced.parameters == PARAMETERS[stage.name]
        assert traced.tensor_bytes[traced.calls[-1].outputs[0]] == 2 * elements
