"""Stable Diffusion 1.5 against torch's own counters and the published sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwspecs.errors import SpecError
from hwspecs.spec import build, wrap
from tests.workloads.conftest import MODEL
from workloads.model import find, models
from workloads.trace import Segment, Trace

# Parameters of the published checkpoints: runwayml/stable-diffusion-v1-5; the decoder with its 1x1 convolution.
PARAMETERS = {"text_encoder": 123_060_480, "unet": 859_520_964, "vae_decoder": 49_490_199}


def segment(trace: Trace, name: str) -> Segment:
    return next(s for s in trace.segments if s.name == name)


def calls(trace: Trace, name: str, kind: str) -> list[int]:
    found = segment(trace, name)
    return [i for i in range(found.start, found.stop) if trace.kinds[trace.call_kind()[i]] == kind]


def dims(trace: Trace, call: int) -> dict[str, int]:
    columns = trace.dims(trace.kinds[trace.call_kind()[call]], trace.call_op[[call]])
    return {name: int(column[0]) for name, column in columns._columns.items()}


@pytest.mark.parametrize("stage", find(MODEL).stages(find(MODEL).request()), ids=lambda s: s.name)
def test_parameters_and_flops_equal_torch(sd: Trace, stage: Any) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    module = stage.build().eval()
    args, kwargs = stage.inputs()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*args, **kwargs)
    found = segment(sd, stage.name)
    assert found.parameters == sum(p.numel() for p in module.parameters()) == PARAMETERS[stage.name]
    assert found.weight_bytes == 2 * found.parameters
    assert int(sd.op_flops()[sd.call_op[found.start : found.stop]].sum()) == counter.get_total_flops()


def test_size_of_the_trace(sd: Trace) -> None:
    unet = segment(sd, "unet")
    assert 700 <= unet.stop - unet.start <= 760
    assert 170 <= len(sd.op_kind) <= 230
    assert [(s.name, s.repeats) for s in sd.segments] == [("text_encoder", 2), ("unet", 50), ("vae_decoder", 1)]
    assert sd.parameters == sum(PARAMETERS.values())


def test_unet_flops_are_those_published(sd: Trace) -> None:
    """402 GMAC a sample with attention's products, 339 without (`flops` counts multiply and add)."""
    unet = segment(sd, "unet")
    flops = sd.op_flops()[sd.call_op[unet.start : unet.stop]]
    attention = sd.op_kind[sd.call_op[unet.start : unet.stop]] == sd.kinds.index("attention")
    assert flops.sum() / 4e9 == pytest.approx(402, abs=1)  # two samples under guidance, two FLOPs a MAC
    assert flops[~attention].sum() / 4e9 == pytest.approx(339, abs=1)


def test_self_attention_spans_64x_in_length_and_cross_reads_77_tokens(sd: Trace) -> None:
    found = [dims(sd, call) for call in calls(sd, "unet", "attention")]
    own = [d for d in found if d["role"] == 0]
    cross = [d for d in found if d["role"] == 1]
    assert len(own) == len(cross) == 16
    assert [d["q_len"] for d in own] == [4096] * 2 + [1024] * 2 + [256] * 2 + [64] + [256] * 3 + [1024] * 3 + [4096] * 3
    assert max(d["q_len"] for d in own) == 64 * min(d["q_len"] for d in own)
    assert all(d["kv_len"] == d["q_len"] for d in own)
    assert {d["kv_len"] for d in cross} == {77}
    assert all((d["batch"], d["heads"], d["causal"], d["interleaved"]) == (2, 8, 0, 1) for d in found)


def test_text_encoder_attends_causally(sd: Trace) -> None:
    found = [dims(sd, call) for call in calls(sd, "text_encoder", "attention")]
    assert len(found) == 12
    assert all((d["heads"], d["q_len"], d["head_dim"], d["causal"], d["role"]) == (12, 77, 64, 1, 0) for d in found)


def test_decoder_has_one_attention_of_one_head(sd: Trace) -> None:
    (call,) = calls(sd, "vae_decoder", "attention")
    found = dims(sd, call)
    assert (found["heads"], found["q_len"], found["head_dim"], found["role"], found["interleaved"]) == (
        1,
        4096,
        512,
        0,
        0,
    )


def test_everything_has_a_model_but_the_argmax_of_the_text_encoder(sd: Trace) -> None:
    assert [sd.labels[sd.op_label[op]] for op in sd.ops_of("traffic")] == ["aten.argmax"]


def test_calls_under_attention_modules(sd: Trace) -> None:
    unet = segment(sd, "unet")
    paths = [sd.paths[p] for p in sd.call_path[unet.start : unet.stop]]
    inside = sd.call_in_attention[unet.start : unet.stop]
    assert all(under == (".attn" in path) for path, under in zip(paths, inside, strict=True))
    assert sum(inside) > 32 * 5


def test_every_activation_has_a_producer_or_is_an_input(sd: Trace) -> None:
    for found, inputs in zip(sd.segments, (1, 3, 1), strict=True):
        written: set[int] = set()
        unknown: set[int] = set()
        for call in range(found.start, found.stop):
            unknown |= {int(i) for i in sd.inputs(call) if not sd.tensor_is_weight[i]} - written
            written |= {int(i) for i in sd.outputs(call)}
        assert len(unknown) <= inputs, found.name
        assert not any(sd.tensor_is_weight[i] for i in written)


def test_activations_come_before_weights(sd: Trace) -> None:
    for call in range(sd.calls):
        weights = sd.tensor_is_weight[sd.inputs(call)].tolist()
        assert weights == sorted(weights)
    assert np.all(sd.tensor_bytes >= 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"height": 500}, "test: request.height: found 500, expected a multiple of 8; nearest: 496, 504"),
        ({"width": -8}, "test: request.width: found '-8', expected a whole number of at least 8 and at most 8192"),
        (
            {"dtype": "fp17"},
            "test: request.dtype: found 'fp17', expected one of fp16, bf16, fp32; did you mean 'fp16'?",
        ),
        (
            {"hight": 512},
            "test: request.hight: unknown field; did you mean 'height'? "
            "(allowed: height, width, batch, steps, guidance, dtype, images, vae_tile, cache)",
        ),
    ],
)
def test_refuses(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as refused:
        build(find(MODEL).request, wrap(given, "test"), at="request")
    assert str(refused.value) == message


def test_every_problem_is_reported_at_once() -> None:
    with pytest.raises(SpecError) as refused:
        build(find(MODEL).request, wrap({"height": 500, "width": 20, "dtype": "x"}, "test"), at="request")
    assert [p.split(":")[1] for p in refused.value.problems] == [" request.height", " request.width", " request.dtype"]


def test_a_wrong_size_in_python_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="found 500, expected a multiple of 8; nearest: 496, 504"):
        find(MODEL).request(height=500)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 24), (72, 56)])
def test_the_unet_and_decoder_take_any_multiple_of_8(height: int, width: int) -> None:
    from workloads.capture import capture

    _, unet, decoder = find(MODEL).stages(find(MODEL).request(height=height, width=width, guidance=False))
    for stage in (unet, decoder):
        traced = capture(stage.build(), *stage.inputs())
        assert traced.parameters == PARAMETERS[stage.name]
        assert traced.tensor_bytes[traced.calls[-1].outputs[0]] == 2 * (
            4 * height * width // 64 if stage is unet else 3 * height * width
        )


def test_unknown_model() -> None:
    assert MODEL in models()
    with pytest.raises(SpecError) as refused:
        find("stable-difusion-1.5")
    assert str(refused.value) == (
        f"unknown model 'stable-difusion-1.5'; did you mean '{MODEL}'? (known: {', '.join(models())})"
    )
