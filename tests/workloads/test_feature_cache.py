"""Feature caching: what a cached step leaves out and reads, its laws, and the count that DeepCache published."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwspecs.rates import rates
from sim.memory import memory
from sim.simulate import price, replay
from tests.workloads.conftest import MODEL
from tests.workloads.test_transforms import REQUEST, scenario
from workloads import trace as traces
from workloads.cache import trace_of
from workloads.capture import assemble, capture
from workloads.model import Reuse, denoising, find
from workloads.trace import Segment, Trace
from workloads.transforms import of_stages, reusing

DEEP = ("unet.down_blocks.1-3", "unet.mid_block", "unet.up_blocks.0-2")


def same(a: Trace, b: Trace) -> bool:
    return a.segments == b.segments and all(np.array_equal(getattr(a, n), getattr(b, n)) for n in traces._ARRAYS)


def segment(trace: Trace, name: str) -> Segment:
    return next(s for s in trace.segments if s.name == name)


def linear_flops(trace: Trace, of: Segment) -> int:
    """Matrix FLOPs of one run, those of the attention kernels themselves left out."""
    ops = trace.call_op[of.start : of.stop]
    return int(trace.op_flops()[ops][trace.op_kind[ops] != trace.kinds.index("attention")].sum())


@pytest.mark.usefixtures("sd")
def test_deepcache_has_the_published_macs() -> None:
    """DeepCache (arXiv 2312.00858), table 3: 338.83 G without, 130.45 G with N = 5, an image a step, PLMS of 50 steps.

    PLMS evaluates the UNet 51 times for 50 steps. The branch that the table used is told by its count.
    """
    reuse = (
        "unet.down_blocks.0.downsamplers", "unet.down_blocks.1-3", "unet.mid_block", "unet.up_blocks.0-2",
        "unet.up_blocks.3.resnets.0", "unet.up_blocks.3.attentions.0",
    )  # fmt: skip
    trace = trace_of(MODEL, REQUEST(steps=51, cache={"every": 5, "reuse": reuse}))
    full, cached = segment(trace, "unet"), segment(trace, "unet_cached")
    assert (full.repeats, cached.repeats) == (11, 40)
    samples, flops_of_mac = 2, 2
    macs = [linear_flops(trace, s) / samples / flops_of_mac / 1e9 for s in (full, cached)]
    assert macs[0] == pytest.approx(338.83, rel=1e-3)
    assert (11 * macs[0] + 40 * macs[1]) / 51 == pytest.approx(130.45, rel=1e-3)


@given(
    every=st.integers(1, 60),
    steps=st.integers(1, 60),
    paths=st.lists(st.sampled_from([*DEEP, "unet.conv_in"]), min_size=1, max_size=4, unique=True),
)
@settings(max_examples=25, deadline=None)
def test_a_cached_run_has_no_more_flops_and_all_steps(sd: Trace, every: int, steps: int, paths: list[str]) -> None:
    plainly = trace_of(MODEL, REQUEST(steps=steps))
    found = trace_of(MODEL, REQUEST(steps=steps, cache={"every": every, "reuse": paths}))
    assert found.flops() <= plainly.flops()
    assert sum(s.repeats for s in found.segments if s.module == "unet") == steps
    if every == 1 or steps == 1:
        assert same(found, plainly)
    else:
        assert found.flops() < plainly.flops()
        assert segment(found, "unet").repeats == -(-steps // every)
    assert found.weight_bytes == sd.weight_bytes


def test_a_cached_step_reads_what_the_full_one_stored(sd: Trace) -> None:
    found = reusing(sd, Reuse("unet", DEEP), "again", 7)
    full, again = segment(found, "unet"), segment(found, "again")
    assert again.start == full.stop
    assert found.segments[-1].stop == found.calls == sd.calls + again.stop - again.start
    paths = [found.paths[p] for p in found.call_path[again.start : again.stop]]
    kept = [found.paths[p] for p in found.call_path[full.start : full.stop]]
    last_parts = ("down_blocks.1", "down_blocks.2", "down_blocks.3", "mid_block", *(f"up_blocks.{i}" for i in range(3)))
    inside = tuple(f"unet.{part}" for part in last_parts)
    assert paths == [p for p in kept if not (p + ".").startswith(tuple(f"{i}." for i in inside))]
    shared = {t for c in range(again.start, again.stop) for t in found.inputs(c).tolist() if t < len(sd.tensor_bytes)}
    stored = {t for t in shared if not found.tensor_is_weight[t]}
    assert len(stored) == 1  # up_blocks.2's result, which the last block joins with its own skips
    (feature,) = stored
    writers = [c for c in range(found.calls) if feature in found.outputs(c).tolist()]
    assert {found.paths[found.call_path[c]].startswith("unet.up_blocks.2") for c in writers} == {True}
    assert int(found.tensor_bytes[feature]) == 2 * 640 * 64 * 64 * 2  # samples, channels, positions, bytes
    before = [getattr(sd, n)[: full.start] for n in ("call_op", "call_path")]
    assert all(
        np.array_equal(a, getattr(found, n)[: full.start])
        for a, n in zip(before, ("call_op", "call_path"), strict=True)
    )
    last = sd.segments[-1]
    assert np.array_equal(sd.call_op[last.start :], found.call_op[found.segments[-1].start :])
    assert sd.inputs(last.start).tolist() == found.inputs(found.segments[-1].start).tolist()


def test_what_is_stored_stays_in_memory_from_the_full_step_to_the_last_cached_one(sd: Trace, tmp_path: Path) -> None:
    s = scenario(tmp_path)
    feature, full = 2 * 640 * 64 * 64 * 2, sd.segments[1]
    runs = [sd, reusing(sd, Reuse("unet", DEEP), "again", 7)]
    before, after = (memory(t, price(t, s.software, rates(s.device), "physical").cost).profile for t in runs)
    more = after[full.start : full.stop] - before[full.start : full.stop]
    assert set(np.round(more).tolist()) <= {0.0, float(feature)}
    assert more[0] == feature
    again = segment(runs[1], "again")
    assert after[again.start : again.stop].min() >= sd.weight_bytes + feature
    assert np.array_equal(before[sd.segments[2].start :], after[again.stop :])


def test_blocks_of_a_transformer_are_reused_by_their_attention() -> None:
    """FORA's unit: attention and MLP of every block, while norms, modulation and residuals run."""
    model = find("dit-xl-2")
    stages = model.stages(
        model.request(
            height=64, width=64, steps=6, cache={"every": 3, "reuse": ["transformer.transformer_blocks.0-27.attn1"]}
        )
    )
    captured = [s for s in stages if s.reuse is None]
    runs = [(s.name, s.module, s.repeats, capture(s.build(), *s.inputs(), path=s.name)) for s in captured]
    trace = of_stages(assemble(model.id, {}, runs), stages)
    full, cached = segment(trace, "transformer"), segment(trace, "transformer_cached")
    assert (full.repeats, cached.repeats) == (2, 4)
    kinds_left = Counter(trace.kinds[k] for k in trace.call_kind()[cached.start : cached.stop])
    kinds_full = Counter(trace.kinds[k] for k in trace.call_kind()[full.start : full.stop])
    assert "attention" not in kinds_left
    assert kinds_full["gemm"] - kinds_left["gemm"] == 28 * 4
    assert kinds_full["layer_norm"] == kinds_left["layer_norm"]
    stored = {t for c in range(cached.start, cached.stop) for t in trace.inputs(c).tolist()} & {
        t for c in range(full.start, full.stop) for t in trace.outputs(c).tolist()
    }
    assert len(stored) == 28


def test_a_step_of_a_cached_run_is_one_in_full(tmp_path: Path, sd: Trace) -> None:
    assert sd.calls
    overrides = f"request.cache={{every: 5, reuse: [{', '.join(DEEP)}]}}"
    one, kept = (replay(scenario(tmp_path, *more)) for more in ((), (overrides,)))
    assert kept.denoising == one.denoising == (1,)
    assert kept.step_time() == pytest.approx(one.step_time(), rel=0.05)
    assert kept.latency < one.latency
    assert (
        "cache every 5 steps, of unet.down_blocks.1-3" in kept.to_json()["request_words"]
        if "request_words" in kept.to_json()
        else True
    )


def test_refiner_and_base_are_cached_apart() -> None:
    model = find("sdxl")
    request = model.request(
        steps=40, refiner_steps=10, guidance="sequential", cache={"every": 4, "reuse": ["refiner.mid_block"]}
    )
    found = [(s.name, s.repeats) for s in model.stages(request) if s.steps]
    assert found == [("unet", 80), ("refiner", 6), ("refiner_cached", 14)]
    assert denoising(model, request) == (2, 2)
