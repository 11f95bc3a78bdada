"""What a sampler does between two runs of a network: counted in the library, told by a row, and priced."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from calib import samplers
from calib.samplers import DDIM, EULER, PNDM, Sampler, between, of_row
from hwspecs import software
from sim.host import Between, serial_makespan, step_time
from tests.build import trace
from workloads.trace import Trace

STEPS = 50
COPY = ("elementwise", {"elements": 1 << 16, "read0": 1 << 17, "read1": 0, "read2": 0, "write": 1 << 17, "exps": 0})


@pytest.mark.parametrize(
    ("name", "config", "sampler"),
    [
        ("PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 1}, PNDM),
        ("DDIMScheduler", {"steps_offset": 1, "clip_sample": False}, DDIM),
        ("EulerDiscreteScheduler", {"steps_offset": 1}, EULER),
    ],
)
def test_operators_and_waits_as_the_library_has_them(name: str, config: dict[str, Any], sampler: Sampler) -> None:
    """A step of the scheduler between two runs, guidance included; what works on latents or on a time step is on the device."""
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    scheduler = getattr(diffusers, name)(**config)
    scheduler.set_timesteps(STEPS)
    assert len(scheduler.timesteps) == STEPS + sampler.extra
    counts: Counter[str] = Counter()

    class Count(torch.utils._python_dispatch.TorchDispatchMode):  # type: ignore[misc, name-defined]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            given = [a for a in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor)]
            if any(t.dim() == 4 or t.dtype == torch.int64 for t in given):
                waits = "_local_scalar_dense" in str(func)
                counts["waits" if waits else "views" if func.is_view else "after" if counts["waits"] else "before"] += 1
            return out

    latents = torch.zeros(1, 4, 8, 8, dtype=torch.float16)
    for step in scheduler.timesteps[:6]:  # linear multistep methods have their history by then
        counts.clear()
        with Count():
            first, second = scheduler.scale_model_input(torch.cat([latents] * 2), step).chunk(2)
            latents = scheduler.step(first + 7.5 * (second - first), step, latents, return_dict=False)[0]
    assert bool(counts["waits"]) == sampler.waits
    # The first of two runs is not told from the last: the concatenation and scaling before a run come after the wait.
    joined = 1 if sampler.waits else 0
    assert (counts["before"] - joined, counts["after"] + joined) == (sampler.before, sampler.after)


def test_the_sampler_of_a_row() -> None:
    docs, words = "huggingface/diffusers docs/source/en/optimization/torch2.0.mdx", "PyTorch 2.0, SDPA, eager"
    assert of_row("SD 1.4", docs, words) is PNDM
    assert of_row("SD 1.5", "fal-ai/stable-diffusion-benchmarks README.md", "stable-fast torch 2.1") is PNDM
    assert of_row("SD 1.5", "fal-ai/stable-diffusion-benchmarks README.md", "TensorRT 9.0 CUDA graphs static") is EULER
    assert of_row("SD 1.5", "siliconflow/onediff README.md", "OneDiff (OneFlow)") is EULER
    assert of_row("SDXL base 1.0", docs, words) is EULER
    assert of_row("Latte-1", "siliconflow/onediff", "PyTorch eager (diffusers)") is DDIM


def test_each_operator_takes_the_host_as_long_as_the_cheapest() -> None:
    eager = software.load("pytorch-eager")
    assert between(PNDM, eager) == Between(12 * eager.host_time_per_launch, 6 * eager.host_time_per_launch, waits=True)


def _by_events(gpu: Any, host: Any, of: Trace, pauses: dict[int, Between]) -> float:
    """End of one inference, call after call."""
    clock, end = 0.0, 0.0
    for i, s in enumerate(of.segments):
        for _ in range(s.repeats):
            for call in range(s.start, s.stop):
                clock += host[call]
                end = max(end, clock) + gpu[call]
            if i in pauses:
                clock += pauses[i].before
                clock = max(clock, end) if pauses[i].waits else clock
                clock += pauses[i].after
                end = max(end, clock) if pauses[i].waits else end
    return end


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("pace", [0.2, 1.0, 5.0])
def test_passes_between_which_the_host_waits(waits: bool, pace: float) -> None:
    """The closed form against event after event; a host that waits is never faster, and a slower host neither."""
    whole = replace(trace([COPY] * 6), segments=())
    first, loop, last = trace([COPY] * 6, repeats=7).segments[0], None, None
    first, loop, last = (replace(first, start=a, stop=b, repeats=r) for a, b, r in ((0, 2, 1), (2, 5, 7), (5, 6, 1)))
    of = replace(whole, segments=(first, loop, last))
    rng = np.random.default_rng(3)
    gpu, host = rng.uniform(0.5, 2.0, 6), pace * rng.uniform(0.5, 2.0, 6)
    pauses = {1: Between(0.3 * pace, 0.4 * pace, waits)}
    found = float(serial_makespan(gpu, host, of, pauses))
    exact = _by_events(gpu, host, of, pauses)
    assert found == pytest.approx(exact)
    assert found >= float(serial_makespan(gpu, host, of)) - 1e-12
    assert float(serial_makespan(gpu, 2 * host, of, pauses)) >= found
    more = float(serial_makespan(gpu, host, replace(of, segments=(first, replace(loop, repeats=8), last)), pauses))
    each = float(step_time(gpu[2:5], host[2:5], pauses[1]))
    assert not waits or more - found == pytest.approx(each)


def test_every_sampler_names_its_code() -> None:
    assert all(s.source.startswith("diffusers, schedulers/") for s in (PNDM, DDIM, EULER))
    assert {s for *_, s in samplers.SAMPLERS} <= {PNDM, DDIM, EULER}
