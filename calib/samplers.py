"""What the program of a published row does around its networks: how often the sampler runs them, and what it does in between.

A trace holds networks. Between two runs the pipeline of a library combines the two halves of a guided prediction and takes the
step: a dozen operators on latents, which the host issues one by one whatever became of the network. Some samplers look up their
coefficients by a time step that lies on the device, and so wait for it: the host then issues nothing ahead of the device.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hwspecs.software import Software
from sim.host import Between


@dataclass(frozen=True)
class Sampler:
    """Counted by running a step of the scheduler of diffusers 0.42 under a dispatch mode, guidance included (tests do so again).

    Attributes:
        extra: runs of the network beyond one a step.
        before, after: operators on the device that the host issues before and after it waits.
        waits: whether a step reads a value off the device.
        source: the code.
    """

    extra: int
    before: int
    after: int
    waits: bool
    source: str


PNDM = Sampler(
    1, 12, 6, True,
    "diffusers, schedulers/scheduling_pndm.py: set_timesteps gives one step more (the second is taken twice); _get_prev_sample "
    "looks up alphas_cumprod[timestep], which is on the host while timestep is on the device",
)  # fmt: skip
DDIM = Sampler(0, 4, 9, True, "diffusers, schedulers/scheduling_ddim.py: step looks up alphas_cumprod[timestep]")
EULER = Sampler(
    0, 13, 0, False, "diffusers, schedulers/scheduling_euler_discrete.py: coefficients by a count on the host"
)

# The sampler of a row: what its source's script sets, else that of the checkpoint (scheduler/scheduler_config.json). Where a
# source does not say, and for samplers that count their steps on the host (DPM-Solver, flow matching), that of Euler stands.
# (model, source and software, sampler), patterns; the first that fits. Stable Diffusion 1 as its pipeline comes: the docs of
# diffusers, lambda's scripts/benchmark.py, fal's benchmarks/benchmark_diffusers.py and _stablefast.py; Latte: onediff's
# benchmarks/text_to_video_latte.py.
SAMPLERS: tuple[tuple[str, str, Sampler], ...] = (
    (r"^SD 1", r"huggingface/diffusers|lambda-diffusers|fal-ai/(?!.*tensorrt)", PNDM),
    (r"^Latte", r"", DDIM),
)


def of_row(model: str, source: str, stack: str) -> Sampler:
    """The sampler of a row, by its model, its source and its software as they stand in the table."""
    where = f"{source} {stack}".lower()
    return next((s for name, pattern, s in SAMPLERS if re.search(name, model) and re.search(pattern, where)), EULER)


def between(sampler: Sampler, software: Software) -> Between:
    """The same as seconds of the host: each operator as the cheapest that eager code has."""
    each = software.host_time_per_launch
    return Between(sampler.before * each, sampler.after * each, sampler.waits)
