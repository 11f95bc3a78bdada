"""Templates against fresh captures, at sizes that took no part in finding them; and what happens where there is none."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hwspecs.errors import SpecError
from workloads import cache, digest, regenerate, samples, templates
from workloads.cache import carried, trace_of
from workloads.join import join
from workloads.model import find, models
from workloads.samples import LIMITS, Sample
from workloads.trace import Trace, same

UNSEEN = LIMITS["batch"] + 2  # the batch of every request below: none so large was drawn to find a template
SIDES = {
    "cogvideox-2b": ((96, 160), (160, 64)),
    "cogvideox-5b": ((96, 160), (160, 64)),
    "dit-xl-2": ((112, 112), (208, 208)),
    "make-a-video": ((96, 192), (288, 96)),
}
FRAMES = {"animatediff": (7, 18, 26), "svd-xt": (6, 11, 19), "latte": (6, 11, 19), "modelscope-t2v": (6, 11, 19)}
# Models of which some stage at the default request has no template yet: they are captured.
CAPTURED: set[str] = set()
LENGTHS = ({"prompt_len": 37, "output_len": 9}, {"prompt_len": 150, "output_len": 2})


def sizes(model: str) -> Iterator[dict[str, Any]]:
    """Two image sizes; of a video model three frame counts besides, one at each of the two and one more; and one sample alone,
    where copies that others need are not made."""
    fields = {f.name for f in find(model).request.__dataclass_fields__.values()}
    if "height" not in fields:
        yield from ({**lengths, "batch": UNSEEN} for lengths in LENGTHS)
        return
    sides = SIDES.get(model, ((256, 384), (640, 128)))
    alone = {"guidance": False} if "guidance" in fields else {}
    if "frames" not in fields:
        yield from ({"height": h, "width": w, "batch": UNSEEN} for h, w in sides)
        yield {"height": sides[1][0], "width": sides[1][1], "batch": 1, **alone}
        return
    step = find(model).frame_step
    counts = FRAMES.get(model, (1 + 3 * step, 1 + 8 * step, 1 + 13 * step) if step > 1 else (5, 9, 14))
    for (h, w), frames in zip((*sides, sides[0]), counts, strict=True):
        yield {"height": h, "width": w, "frames": frames, "batch": UNSEEN}
    yield {"height": sides[1][0], "width": sides[1][1], "frames": counts[0], "batch": 1, **alone}


COMPARED: set[tuple[str, tuple[int, ...]]] = set()


def fresh(model: str, request: dict[str, Any]) -> Iterator[Sample]:
    """Stages that no other model has had compared: of one decode, the first two passes."""
    found = list(samples.of_request(find(model), find(model).request(**request)))
    for sample in found:
        signature = sample.signature
        spans = sum(key == signature.key for key, _ in COMPARED)
        if (signature.key, signature.numbers) in COMPARED or (sample.stage.name.startswith("decode_") and spans > 1):
            continue
        COMPARED.add((signature.key, signature.numbers))
        yield sample


@pytest.mark.parametrize("model", models())
def test_a_template_gives_what_a_capture_gives(model: str) -> None:
    for request in sizes(model):
        for sample in fresh(model, request):
            trace = templates.stage_trace(_unnamed(sample), sample.frames)
            assert trace is not None, (sample.stage.name, request)
            assert same(join("", {}, [trace]), samples.captured(sample)), (sample.stage.name, request)
    samples.forget()


@pytest.mark.parametrize(("batch", "dtype"), [(2, "bf16"), (3, "fp16")])
def test_flux_copies_runs_of_its_text_where_the_image_has_more_tokens(batch: int, dtype: str) -> None:
    """512 tokens of text; the sizes of the test above have fewer of the image."""
    model = find("flux.1-dev")
    request = model.request(height=512, width=768, batch=batch, dtype=dtype)
    (sample,) = (s for s in samples.of_request(model, request) if s.stage.name == "transformer")
    trace = templates.stage_trace(_unnamed(sample), sample.frames)
    assert trace is not None
    assert same(join("", {}, [trace]), samples.captured(sample))
    samples.forget()


def _unnamed(sample: Sample) -> Any:
    return replace(sample.stage, name="")


@pytest.mark.parametrize("model", models())
def test_every_default_request_is_carried(model: str) -> None:
    assert carried(model, find(model).request()) == (model not in CAPTURED)


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        ("animatediff", {"batch": 1, "guidance": False, "frames": 24, "height": 256, "width": 256}),
        ("cogvideox-2b", {"batch": 2}),
        ("cogvideox-2b", {"guidance": False}),
        ("cogvideox-5b", {"batch": 2}),
        ("cogvideox-5b", {"height": 720, "width": 1280}),
        ("cogvideox-5b", {"height": 768, "width": 1360}),
        ("cogvideox-2b", {"height": 768, "width": 1360, "frames": 81}),
        ("cogvideox-2b", {"batch": 4}),
        ("cogvideox-2b", {"batch": 4, "height": 480, "width": 832, "frames": 9, "dtype": "bf16"}),
        ("animatediff", {"batch": 4}),
        ("hunyuanvideo", {"batch": 4, "frames": 85, "dtype": "fp32"}),
        ("latte", {"batch": 4}),
        ("mochi", {"batch": 4, "guidance": True}),
        ("modelscope-t2v", {"guidance": False}),
        ("pixart-alpha", {"height": 768, "width": 768}),
    ],
)
def test_usual_requests_are_carried(model: str, asked: dict[str, Any]) -> None:
    assert carried(model, find(model).request(**asked))


@pytest.mark.parametrize("path", sorted(templates.FOLDER.glob("*")), ids=lambda p: p.name.partition(".json")[0])
def test_templates_are_of_this_code(path: Path) -> None:
    data = templates.load(path)
    command = "python -m workloads.regenerate (with the models that were changed, or all)"
    made = {entry["code"] for entry in data["families"].values()}
    assert made == {digest.code_of(data["function"])}, f"{path.name} was made by other code; run: {command}"


def test_the_digest_leaves_out_what_changes_nothing() -> None:
    code = 'def f(x):\n    """Text."""\n    return x + 1  # why\n'
    assert digest.bare(code) == digest.bare("def f(x):\n\n    return x  +  1\n")
    assert digest.bare(code) != digest.bare(code.replace("1", "2"))
    assert digest.bare("s = 'é'  # ü\n") == "s='é'"


def test_the_digest_is_of_what_builds_the_module_alone() -> None:
    code = "from a import b\nN = 1\nM = N + 1\n\n\ndef build():\n    return b(M)\n\n\n@cache\ndef stages():\n    return build()\n"
    needed = digest.needed(code, "build")
    assert needed == "from a import b\nN = 1\nM = N + 1\ndef build():\n    return b(M)"
    assert digest.needed(code.replace("return build()", "return 1"), "build") == needed
    assert digest.needed(code.replace("N = 1", "N = 2"), "build") != needed


def test_the_digest_follows_imports_by_name() -> None:
    of_sdxl = "\n".join(digest.closure("workloads.models.sdxl", "unet"))
    assert "LATENT_CHANNELS = 4" in of_sdxl, "of a module that is imported as a whole, what is read of it"
    assert "def torch_dtype" in of_sdxl, "of a name that an import's code imports in turn"
    assert "class Request" not in of_sdxl
    assert "workloads.blocks" not in of_sdxl
    assert "def map_attention" in "\n".join(digest.closure("workloads.models.imagen", "base")), "within functions too"


def test_a_pipeline_of_templates_is_numbered_as_a_capture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, asked = "stable-diffusion-1.5", {"height": 72, "width": 136, "batch": UNSEEN, "guidance": False}
    request = find(model).request(**asked)
    quick = trace_of(model, request)
    monkeypatch.setenv("FRAMECAST_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "stage_trace", lambda *_: None)
    captured = trace_of(model, request)
    assert same(quick, captured)
    assert quick.segments == captured.segments
    assert quick.request == captured.request


def test_without_torch_a_thousand_sizes_take_milliseconds_each() -> None:
    program = (
        "import sys, time\nfrom workloads.cache import trace_of\nfrom workloads.model import find\n"
        "Request = find('stable-diffusion-1.5').request\ntrace_of('stable-diffusion-1.5', Request())\n"
        "start = time.process_time()\n"
        "for i in range(1000):\n"
        "    trace_of('stable-diffusion-1.5', Request(height=64 + 8 * (i % 40), width=512 + 8 * (i // 40)))\n"
        "print(time.process_time() - start, [m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    seconds, _, loaded = done.stdout.partition(" ")
    assert float(seconds) < 5  # 0.9 s on a quiet machine
    assert loaded.strip() == "[]"
    assert done.stderr == ""


NONE = "stable-diffusion-1.5 520x520 batch 1 guidance on fp16: no template holds for unet"


@pytest.fixture
def no_unet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The request of a trace for which the UNet's template is gone."""
    monkeypatch.setenv("FRAMECAST_CACHE", str(tmp_path))
    real = templates.stage_trace
    monkeypatch.setattr(cache, "stage_trace", lambda s, frames: None if s.name == "unet" else real(s, frames))
    return find("stable-diffusion-1.5").request(height=520, width=520)


def test_what_no_template_covers_is_captured_and_said(no_unet: Any, capsys: pytest.CaptureFixture[str]) -> None:
    captured = trace_of("stable-diffusion-1.5", no_unet)
    assert capsys.readouterr().err == f"note: {NONE}; captured once with torch (about 8 s)\n"
    again = trace_of("stable-diffusion-1.5", no_unet)
    assert capsys.readouterr().err == ""
    assert same(captured, again)


def test_a_capture_without_torch_says_what_to_install(no_unet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name != "transformers" else name)
    with pytest.raises(SpecError) as raised:
        trace_of("stable-diffusion-1.5", no_unet)
    wanted = "to capture it needs torch, diffusers: pip install 'framecast[capture]'"
    assert str(raised.value) == f"{NONE}; {wanted}"


def test_a_contradicted_template_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """Captures whose sizes follow a rule while it is looked for, and none when it is to be proven."""
    model = find("stable-diffusion-1.5")
    drawn = samples.pool([model], random.Random(3), large=False)["workloads.models.stable_diffusion_1_5.text_encoder"]
    real = samples.captured
    count = iter(range(10**6))

    def odd(sample: Sample) -> Trace:
        trace = real(sample)
        return replace(trace, tensor_bytes=trace.tensor_bytes + next(count) // 4)

    monkeypatch.setattr(samples, "captured", odd)
    monkeypatch.setattr(templates, "FOLDER", tmp_path / "traces")
    key = next(iter(drawn))
    assert not regenerate._regenerated("workloads.models.stable_diffusion_1_5.text_encoder", key, {key: drawn[key]}, [])
    assert [path.name for path in tmp_path.iterdir()] == ["unfound.json"]
    assert "no structure could be proven in" in capfd.readouterr().err
