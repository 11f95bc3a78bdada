"""The study's suite: published sizes, torch's counters, decode with a cache, exact laws in frames, what a request may ask."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hwspecs.errors import SpecError
from hwspecs.spec import build, wrap
from workloads.cache import trace_of
from workloads.model import find
from workloads.ops.attention import ROLES
from workloads.trace import Segment, Trace

# A small request of every model: all of its stages, at their full width.
SMALL: dict[str, dict[str, Any]] = {
    "llama-2-7b": {"prompt_len": 32, "output_len": 4},
    "imagen": {"height": 128, "width": 256, "text_len": 16},
    "muse": {"height": 64, "width": 128, "text_len": 16},
    "parti": {"height": 16, "width": 24, "text_len": 16},
    "make-a-video": {"height": 96, "width": 96, "frames": 3, "interpolation": 2},
    "phenaki": {"height": 32, "width": 64, "frames": 5, "text_len": 16},
    "production-latent": {"height": 64, "width": 64, "text_len": 16},
}

# Parameters of a stage in millions, counted here; and published, with the distance that the model's file explains.
COUNTED = {
    ("llama-2-7b", "prefill"): (6_738.4, 6_738.4, 0.0),
    ("imagen", "text_encoder"): (4_762.3, 4_600, 0.05),
    ("imagen", "base"): (2_267.5, 2_000, 0.14),
    ("imagen", "super_resolution_1"): (467.1, 600, 0.23),
    ("imagen", "super_resolution_2"): (458.7, 400, 0.15),
    ("muse", "base"): (3_263.8, 3_000, 0.09),
    ("parti", "text_encoder"): (20_535.8, 20_000, 0.05),
    ("parti", "image_decoder"): (629.9, 600, 0.05),
    ("phenaki", "transformer"): (1_846.0, 1_800, 0.05),
    ("make-a-video", "prior"): (1_216.7, 1_000, 0.22),
    ("production-latent", "unet"): (3_006.5, 2_800, 0.08),
}


@pytest.fixture(scope="module")
def small(shared_cache: Path) -> Any:
    """id -> the trace of the small request."""
    assert shared_cache.exists()
    return cache(lambda name: trace_of(name, find(name).request(**SMALL[name])))


def flops_by_role(trace: Trace, name: str) -> Counter[str]:
    (found,) = (s for s in trace.segments if s.name == name)
    ops = [op for op in trace.call_op[found.start : found.stop] if trace.kinds[trace.op_kind[op]] == "attention"]
    total: Counter[str] = Counter()
    for op in ops:
        total[ROLES[trace.op_dims[op][7]]] += int(trace.op_flops()[op])
    return total


def attention_sizes(trace: Trace, found: Segment) -> set[tuple[int, int]]:
    """(q_len, kv_len) of the attention of a segment."""
    ops = [op for op in trace.call_op[found.start : found.stop] if trace.kinds[trace.op_kind[op]] == "attention"]
    return {(int(trace.op_dims[op][3]), int(trace.op_dims[op][4])) for op in ops}


@pytest.mark.parametrize("name", SMALL)
def test_parameters_and_flops_equal_torch(small: Any, name: str) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    trace = small(name)
    for stage, found in zip(find(name).stages(find(name).request(**SMALL[name])), trace.segments, strict=True):
        module = stage.build().eval()
        args, kwargs = stage.inputs()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(*args, **kwargs)
        assert found.parameters == sum(p.numel() for p in module.parameters())
        assert int(trace.op_flops()[trace.call_op[found.start : found.stop]].sum()) == counter.get_total_flops(), (
            stage.name
        )


@pytest.mark.parametrize(("name", "stage"), COUNTED)
def test_parameters_are_those_published_or_the_file_says_why_not(small: Any, name: str, stage: str) -> None:
    counted, published, distance = COUNTED[name, stage]
    (found,) = (s for s in small(name).segments if s.name == stage)
    assert found.parameters / 1e6 == pytest.approx(counted, rel=1e-3)
    assert counted == pytest.approx(published, rel=distance)
    if distance > 0.05:
        import importlib

        told = str(importlib.import_module(f"workloads.models.{name.replace('-', '_')}").__doc__)
        assert f"{published / 1000:.2g} B" in told or f"{published} M" in told


@pytest.mark.parametrize(
    ("size", "parameters"), [("7b", 6_738_415_616), ("13b", 13_015_864_320), ("70b", 68_976_648_192)]
)
def test_llama_has_the_published_parameters(size: str, parameters: int) -> None:
    from workloads.models.llama_2 import language_model

    assert sum(p.numel() for p in language_model(size, "fp16").parameters()) == parameters


def test_unclip_s_upsamplers_have_the_published_parameters() -> None:
    """Make-A-Video's super-resolutions without their time layers: 700 M and 300 M, to one digit."""
    from workloads.models.make_a_video import super_resolution_2
    from workloads.parts.meta import on_meta
    from workloads.unets import unet

    first = on_meta(lambda: unet()(6, 3, 320, (1, 2, 3, 4), 3), "fp16")
    assert sum(p.numel() for p in first.parameters()) == pytest.approx(700e6, rel=0.05)
    assert sum(p.numel() for p in super_resolution_2("fp16").parameters()) == pytest.approx(300e6, rel=0.07)


def test_llama_decodes_with_a_cache(small: Any) -> None:
    trace = small("llama-2-7b")
    prefill, *decode = trace.segments
    assert attention_sizes(trace, prefill) == {(32, 32)}
    assert [attention_sizes(trace, s) for s in decode] == [{(1, kv_len)} for kv_len in (33, 34, 35)]
    assert [s.repeats for s in decode] == [1, 1, 1]
    assert trace.parameters == prefill.parameters  # one module
    causal = {int(trace.op_dims[op][6]) for op in trace.ops_of("attention") if trace.op_dims[op][3] > 1}
    assert causal == {1}
    copies = [
        c
        for c in range(decode[0].start, decode[0].stop)
        if trace.labels[trace.op_label[trace.call_op[c]]] == "aten.copy_"
    ]
    assert len(copies) == 2 * 32
    held = {int(i) for c in copies for i in trace.outputs(c)}
    assert len(held) == 2 * 32  # every layer's keys and values, written in place
    assert all(trace.tensor_is_weight[i] for i in held)  # at rest in HBM, not left in L2 by the kernel before
    assert {int(trace.tensor_bytes[i]) for i in held} == {36 * 4096 * 2}


def test_grouped_queries_share_keys() -> None:
    from workloads.capture import capture

    stage = find("llama-2-70b").stages(find("llama-2-70b").request(prompt_len=8, output_len=2))[1]
    found = {c.dims[1:3] for c in capture(stage.build(), *stage.inputs()).calls if c.kind == "attention"}
    assert found == {(64, 8)}


def test_a_decode_of_1024_tokens_is_a_few_thousand_calls(shared_cache: Path) -> None:
    assert shared_cache.exists()
    trace = trace_of("parti", find("parti").request())
    decode = [s for s in trace.segments if s.name.startswith("decode")]
    assert sum(s.repeats for s in decode) == 1024
    assert trace.calls < 12_000
    assert len(trace.op_kind) < 100
    own = sum(s.repeats * kv_len for s in decode for q_len, kv_len in attention_sizes(trace, s) if kv_len != 128)
    assert own == sum(range(1, 1025))


def test_make_a_video_attends_linearly_in_space_and_quadratically_in_time(shared_cache: Path) -> None:
    assert shared_cache.exists()
    found = {}
    for frames in (2, 3, 5):
        trace = trace_of("make-a-video", find("make-a-video").request(**{**SMALL["make-a-video"], "frames": frames}))
        found[frames] = flops_by_role(trace, "decoder")
        shown = 2 * frames - 1
        more = flops_by_role(trace, "interpolation")
        assert more["self"] * frames == found[frames]["self"] * shown
        assert more["temporal"] * frames**2 == found[frames]["temporal"] * shown**2
    assert {f["self"] / frames for frames, f in found.items()} == {found[2]["self"] / 2}
    assert {f["temporal"] / frames**2 for frames, f in found.items()} == {found[2]["temporal"] / 4}


def test_make_a_video_without_interpolation_shows_the_decoder_s_frames() -> None:
    stages = find("make-a-video").stages(find("make-a-video").request(interpolation=1))
    assert "interpolation" not in [s.name for s in stages]
    assert stages[-1].repeats == 15 * 4  # of its 16 frames four at a time
    assert find("make-a-video").stages(find("make-a-video").request())[-1].repeats == 15 * 19


def test_phenaki_decoder_attends_linearly_in_space_and_quadratically_in_time(shared_cache: Path) -> None:
    assert shared_cache.exists()
    found = {}
    for frames in (3, 5, 9):
        trace = trace_of("phenaki", find("phenaki").request(**{**SMALL["phenaki"], "frames": frames}))
        found[1 + frames // 2] = flops_by_role(trace, "video_decoder")
        assert set(flops_by_role(trace, "transformer")) == {"self", "cross"}
    assert {f["self"] / tubes for tubes, f in found.items()} == {found[2]["self"] / 2}
    assert {f["temporal"] / tubes**2 for tubes, f in found.items()} == {found[2]["temporal"] / 4}


def test_imagen_s_text_joins_the_base_s_keys_and_the_last_upscaler_reads_only_text(small: Any) -> None:
    trace = small("imagen")
    by_name = {s.name: s for s in trace.segments}
    lengths = (4 * 8, 2 * 4, 1 * 2)  # at 128 x 256 the base has 8 x 16 pixels
    assert attention_sizes(trace, by_name["base"]) == {(n, n + 16) for n in lengths} | {(1, 16)}
    assert attention_sizes(trace, by_name["super_resolution_1"]) == {(2 * 4, 2 * 4 + 16), (1, 16)}
    assert attention_sizes(trace, by_name["super_resolution_2"]) == {(8 * 16, 16), (1, 16)}


def test_the_moves_of_a_map_are_kernels_of_its_attention(shared_cache: Path) -> None:
    """To tokens and back, over pixels and over frames: copies inside the attention modules, and none of norms or convolutions."""
    assert shared_cache.exists()
    wide = {**SMALL["make-a-video"], "width": 192}  # maps of one pixel, which torch does not copy, have none
    trace = trace_of("make-a-video", find("make-a-video").request(**wide))
    (decoder,) = (s for s in trace.segments if s.name == "decoder")
    calls = range(decoder.start, decoder.stop)
    moved = Counter(
        trace.paths[trace.call_path[c]].rpartition(".")[2]
        for c in calls
        if trace.call_in_attention[c] and trace.kinds[trace.op_kind[trace.call_op[c]]] == "permute"
    )
    blocks = len({p for p in trace.paths if ".attended." in p and p.startswith("decoder.") and p.endswith(".time")})
    assert moved["time"] >= 2 * blocks
    assert moved["space"] >= blocks


@pytest.mark.parametrize(("frames", "together", "runs"), [(16, 4, 19), (16, 5, 16), (16, 1, 76), (2, 64, 1)])
def test_make_a_video_s_last_network_takes_some_frames_at_a_time(frames: int, together: int, runs: int) -> None:
    model = find("make-a-video")
    last = model.stages(model.request(frames=frames, upscale_frames=together))[-1]
    assert last.name == "super_resolution_2"
    assert last.repeats == 15 * runs
    assert last.inputs()[0][0].shape[0] == min(together, 5 * (frames - 1) + 1)


def test_imagen_goes_over_768_as_the_study_s_does(shared_cache: Path) -> None:
    assert shared_cache.exists()
    trace = trace_of("imagen", find("imagen").request(**{**SMALL["imagen"], "middle": "768"}))
    assert (6 * 12, 6 * 12 + 16) in attention_sizes(trace, trace.segments[2])


def test_muse_keeps_its_sequence_and_ends_at_the_base_where_asked(small: Any) -> None:
    trace = small("muse")
    by_name = {s.name: s for s in trace.segments}
    assert attention_sizes(trace, by_name["base"]) == {(8, 8), (8, 16)}
    assert attention_sizes(trace, by_name["super_resolution"]) == {(64, 64), (2, 2), (128, 8 + 16)}
    stages = find("muse").stages(find("muse").request(super_resolution=False))
    assert [(s.name, s.repeats) for s in stages] == [("text_encoder", 2), ("base", 24), ("vqgan_decoder", 1)]


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        ("imagen", {"height": 1000}, "request.height: found 1000, expected a multiple of 128; nearest: 896, 1024"),
        ("imagen", {"middle": "512"}, "request.middle: found '512', expected one of 256, 768"),
        ("muse", {"width": 500}, "request.width: found 500, expected a multiple of 64; nearest: 448, 512"),
        ("parti", {"height": 250}, "request.height: found 250, expected a multiple of 8; nearest: 248, 256"),
        ("make-a-video", {"width": 700}, "request.width: found 700, expected a multiple of 96; nearest: 672, 768"),
        ("phenaki", {"frames": 10}, "request.frames: found 10, expected 1 plus a multiple of 2; nearest: 9, 11"),
        ("production-latent", {"height": 1001}, "request.height: found 1001, expected a multiple of 8; nearest: 1000, 1008"),
        (
            "llama-2-13b",
            {"prompt_len": 0},
            "request.prompt_len: found '0', expected a whole number of at least 1 and at most 4096",
        ),
        (
            "llama-2-7b",
            {"prompt_len": 4000, "output_len": 200},
            "request.output_len: found 200, expected at most 96: with the prompt no more than 4096 tokens",
        ),
    ],
)  # fmt: skip
def test_refuses(model: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as refused:
        build(find(model).request, wrap(given, "test"), at="request")
    assert str(refused.value) == f"test: {message}"


@pytest.mark.parametrize("name", SMALL)
def test_runs(small: Any, name: str, tmp_path: Path) -> None:
    from sim.scenario import load
    from sim.simulate import replay

    assert small(name)
    fields = "".join(f"  {field}: {value}\n" for field, value in SMALL[name].items())
    file = tmp_path / "scenario.yaml"
    file.write_text(f"model: {name}\ndevice: a100-sxm-80gb\nsoftware: pytorch-eager\nrequest:\n{fields}")
    result = replay(load(file))
    assert result.latency > 0
    assert len(result.trace.segments) == len(find(name).stages(result.scenario.request))
