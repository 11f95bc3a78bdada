"""What the fields that transform a request refuse: one line, what was found, what is allowed, what is nearest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hwspecs.errors import SpecError
from hwspecs.spec import build, wrap
from tests.workloads.conftest import MODEL
from tests.workloads.test_transforms import REQUEST, scenario
from workloads.cache import trace_of
from workloads.model import find

EXPECTED = "expected one of true, false, batched, sequential, none"


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        (MODEL, {"guidance": "sequental"}, f"request.guidance: found 'sequental', {EXPECTED}; did you mean 'sequential'?"),
        (MODEL, {"guidance": 2}, f"request.guidance: found '2', {EXPECTED}"),
        (
            "flux.1-dev", {"guidance": "batch"},
            "request.guidance: found 'batch', expected one of true, false, sequential, batched, none; did you mean 'batched'?",
        ),
        (
            "muse", {"guidance": "sequential"},
            "request.guidance: found 'sequential', expected one of true, false, batched, none",
        ),
        (MODEL, {"batch": 4, "images": 10}, "request.images: found 10, expected a multiple of the batch, 4; nearest: 8, 12"),
        (MODEL, {"batch": 4, "images": 3}, "request.images: found 3, expected a multiple of the batch, 4; nearest: 4"),
        (MODEL, {"images": 0}, "request.images: found '0', expected a whole number of at least 1 and at most 1000000"),
        (MODEL, {"vae_tile": 500}, "request.vae_tile: found 500, expected a multiple of 32; nearest: 480, 512"),
        (MODEL, {"vae_tile": 32}, "request.vae_tile: found '32', expected a whole number of at least 64 and at most 8192"),
        (MODEL, {"cache": 5}, "request.cache: found '5', expected fields (every, reuse)"),
        (
            MODEL, {"cache": {"reuse": ["unet.mid_block"]}},
            "request.cache.every: missing; expected a whole number of at least 1 and at most 1000",
        ),
        (MODEL, {"cache": {"every": 5}}, "request.cache.reuse: missing; expected a list"),
        (
            MODEL, {"cache": {"every": 5, "reuse": []}},
            "request.cache.reuse: found [], expected paths of modules, for example [unet.mid_block]",
        ),
        (
            MODEL, {"cache": {"evry": 5, "every": 5, "reuse": ["unet.mid_block"]}},
            "request.cache.evry: unknown field; did you mean 'every'? (allowed: every, reuse)",
        ),
        ("imagen", {"vae_tile": 512}, "request.vae_tile: unknown field; did you mean"),
        ("llama-2-7b", {"images": 2}, "request.images: unknown field"),
    ],
)  # fmt: skip
def test_refuses(model: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as refused:
        build(find(model).request, wrap(given, "test"), at="request")
    (problem,) = refused.value.problems
    assert problem == f"test: {message}" or (
        "unknown field" in message and problem.startswith(f"test: {message}".partition(";")[0])
    )


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["vae_decoder.decoder"], "found 'vae_decoder.decoder', expected a path that begins with a denoising stage: unet"),
        (
            ["unit.mid_block"],
            "found 'unit.mid_block', expected a path that begins with a denoising stage: unet; did you mean 'unet'?",
        ),
        (
            ["unet.mid_blocks"],
            "found 'unet.mid_blocks', which is no module that a step of unet runs; did you mean 'unet.mid_block'?",
        ),
        (
            ["unet.mid_block", "unet.up_blocks.2-4"],
            "found 'unet.up_blocks.2-4', of which 'unet.up_blocks.4' is no module that a step of unet runs; "
            "did you mean 'unet.up_blocks.3'?",
        ),
        (["unet.up_blocks.3-1"], "found 'unet.up_blocks.3-1', expected '1-3': a range from low to high"),
        (["unet"], "found 'unet', which leaves nothing of a step; name modules inside"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("sd")
def test_refuses_modules_that_do_not_run(paths: list[str], message: str) -> None:
    with pytest.raises(SpecError) as refused:
        trace_of(MODEL, REQUEST(cache={"every": 5, "reuse": paths}))
    assert refused.value.problems == (f"request.cache.reuse: {message}",)


@pytest.mark.parametrize(
    ("override", "field", "instead"),
    [
        ("request.images=2", "images", "use pods.count, of members: requests"),
        ("request.cache={every: 2, reuse: [unet.mid_block]}", "cache", "leave it out"),
    ],
)  # fmt: skip
def test_pods_refuse_what_makes_steps_differ(tmp_path: Path, override: str, field: str, instead: str) -> None:
    from sim.concurrent import inference

    with pytest.raises(SpecError) as refused:
        inference(scenario(tmp_path, override))
    what = f"request.{field}: a schedule takes inferences of one batch, whose steps are all alike; {instead}"
    assert refused.value.problems == (f"{tmp_path}/scenario.yaml: {what}",)
