"""Every message of a scenario, word for word."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwspecs import device, errors, spec
from hwspecs.device import device_names
from hwspecs.errors import SpecError
from hwspecs.spec import dump
from sim.parts import top, without_effect
from sim.scenario import load
from tests.sim.toy import write
from workloads.model import models

GOOD = "model: stable-diffusion-1.5\ndevice: a100-sxm-80gb\n"
IDS = ", ".join(device_names())
TOP = "(allowed: name, model, request, device, software, level, sweep, search, project, pods, serve)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "device: a100-sxm-80gb\n",
            "PATH: model: missing; expected a model's id (`framecast models` lists them) or a capture file",
        ),
        ("model: 3\ndevice: a100-sxm-80gb\n", "PATH:1:8: model: found '3', expected a model's id or a capture file"),
        (
            "model: stable-difusion-1.5\ndevice: a100-sxm-80gb\n",
            "PATH:1:8: model: unknown model 'stable-difusion-1.5'; did you mean 'stable-diffusion-1.5'?"
            f" (known: {', '.join(models())})",
        ),
        (
            "model: stable-diffusion-1.5\n",
            "PATH: device: missing; expected an id (`framecast hardware list`), a device file, or fields",
        ),
        (
            "model: stable-diffusion-1.5\ndevice: a100-sxm-90gb\n",
            f"PATH:2:9: device: unknown device 'a100-sxm-90gb'; did you mean 'a100-sxm-80gb'? (allowed: {IDS})",
        ),
        (
            "model: stable-diffusion-1.5\ndevice: 7\n",
            "PATH:2:9: device: found '7', expected an id, a file or fields",
        ),
        (
            GOOD + "software: pytorch-eagr\n",
            "PATH:3:11: software: unknown software 'pytorch-eagr'; did you mean 'pytorch-eager'?"
            " (allowed: pytorch-compiled, pytorch-eager)",
        ),
        (
            GOOD + "request: {batch: -1}\n",
            "PATH:3:18: request.batch: found '-1', expected a whole number of at least 1 and at most 1024",
        ),
        (
            GOOD + "request: {hight: 512}\n",
            "PATH:3:11: request.hight: unknown field; did you mean 'height'?"
            " (allowed: height, width, batch, steps, guidance, dtype, images, vae_tile, cache)",
        ),
        (
            GOOD + "request: {height: 500}\n",
            "PATH:3:19: request.height: found 500, expected a multiple of 8; nearest: 496, 504",
        ),
        (GOOD + "level: fast\n", "PATH:3:8: level: found 'fast', expected one of roofline, physical, calibrated"),
        (GOOD + "name: 3\n", "PATH:3:7: name: found '3', expected text, in quotes"),
        (
            GOOD + "softwar: pytorch-eager\n",
            "PATH:3:1: softwar: unknown field; did you mean 'software'?"
            " (allowed: name, model, request, device, software, level, sweep, search, project, pods, serve)",
        ),
        (GOOD + "device: h100-sxm\n", "PATH:3:1: device: duplicate field; it is already set in line 2"),
        (
            GOOD + "request: {height: 512, height: 520}\n",
            "PATH:3:24: request.height: duplicate field; it is already set in line 3",
        ),
        (
            "modle: stable-diffusion-1.5\ndevice: a100-sxm-80gb\n",
            "PATH:1:1: modle: unknown field; did you mean 'model'? " + TOP,
        ),
        (
            "model: stable-diffusion-1.5\ndevise: a100-sxm-80gb\n",
            "PATH:2:1: devise: unknown field; did you mean 'device'? " + TOP,
        ),
        (
            GOOD + "software: {attention: unfused}\n",
            "PATH:3:11: software: names no base; add what these fields change, for example `base: pytorch-eager` "
            f"(or every field; missing: {', '.join(f for f in top('software') if f not in ('attention', 'rms_norm'))})",
        ),
        (GOOD + 'name: "a/b\\nc"\n', r"PATH:3:7: name: found 'a/b\nc', expected one line of text"),
        (GOOD + "name: ''\n", "PATH:3:7: name: found '', expected one line of text"),
        (GOOD + "request:\n\theight: 512\n", "PATH:4:1: a tab; indent with spaces"),
        (
            GOOD + "---\n" + GOOD,
            "PATH:3:1: a second document begins here; expected one a file, without a line '---' inside",
        ),
        (
            spec.dump(device.load("h100-sxm")),
            "PATH: a device file, not a scenario; name it in a scenario (`device: PATH`) "
            "or run a scenario with --set device=PATH",
        ),
    ],
)
def test_a_problem_in_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SpecError) as caught:
        load(path)
    assert caught.value.problems == (message.replace("PATH", str(path)),)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("request.height", "request.height: expected PATH=VALUE, for example device.hbm.bandwidth='4 TB/s'"),
        ("=3", "=3: expected PATH=VALUE, for example device.hbm.bandwidth='4 TB/s'"),
        ("device.hbm.bandwith=4 TB/s", "device.hbm.bandwith: unknown field; did you mean 'device.hbm.bandwidth'?"),
        (
            "device.hbm.bandwidth=4",
            "device.hbm.bandwidth: found '4', expected a rate with its unit, for example '4.8 TB/s'",
        ),
        ("device.sm_count=0", "device.sm_count: found '0', expected a whole number of at least 1 and at most 100000"),
        *(
            (f"device.{path}={value}", f"device.{path}: found '{value}', expected {bounds}")
            for path, value, bounds in (
                ("sm.shared_memory", "1 KiB", "a size of at least 16 KiB and at most 1 TB"),
                ("sm.registers", "1 B", "a size of at least 16 KiB and at most 1 TB"),
                ("sm.max_threads", "1", "a whole number of at least 32 and at most 10000000"),
                ("sm.shared_bandwidth", "0 B/cycle", "a rate of at least 1 B/cycle and at most 1000000000 B/cycle"),
                ("hbm.inline_ecc", "maybe", "true or false"),
                ("sm_count", "1e23", "a whole number of at least 1 and at most 100000"),
                ("hbm.bandwidth", "1e-30 B/s", "a rate of at least 1 GB/s and at most 1000 PB/s"),
                ("hbm.latency", "1 s", "a time of at least 1 ns and at most 10 ms"),
                ("sm_clock", "1 Hz", "a frequency of at least 1 MHz and at most 1 THz"),
            )
        ),
        ("request.height=500", "request.height: found 500, expected a multiple of 8; nearest: 496, 504"),
        (
            "software.attention=flash",
            "software.attention: found 'flash', expected one of unfused, flash-1, flash-2, flash-3, auto; "
            "did you mean 'flash-1', 'flash-2' or 'flash-3'?",
        ),
        (
            "device=a100",
            "device: unknown device 'a100'; did you mean 'a100-pcie-40gb', 'a100-pcie-80gb', 'a100-sxm-40gb' or "
            f"'a100-sxm-80gb'? (allowed: {IDS})",
        ),
    ],
)
def test_a_problem_in_an_override(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(write(tmp_path), [override])
    assert caught.value.problems == (f"--set {message}",)


def test_a_dtype_that_the_device_lacks(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(SpecError) as caught:
        load(path, ["request.dtype=bf16", "device.tensor.bf16=0 FLOP/cycle", "device.vector.bf16=128 FLOP/cycle"])
    text = "a100-sxm-80gb has no bf16 arithmetic; it has fp32, tf32, fp16, int8"
    assert caught.value.problems == (f"--set request.dtype: {text}",)


def test_a_device_file_that_is_not_there_or_wrong(tmp_path: Path) -> None:
    path = write(tmp_path, "model: stable-diffusion-1.5\ndevice: mine.yaml\n")
    with pytest.raises(SpecError) as caught:
        load(path)
    assert caught.value.problems == (f"{path}:2:9: device: {tmp_path}/mine.yaml: no such file",)
    text = dump(load(write(tmp_path, name="other.yaml")).device).replace("a100-sxm-80gb", "mine", 1)
    mine = write(tmp_path, text.replace("2.039 TB/s", "2039"), "mine.yaml")
    line = text[: text.index("2.039 TB/s")].count("\n") + 1
    with pytest.raises(SpecError) as caught:
        load(path)
    problem = "device.hbm.bandwidth: found '2039', expected a rate with its unit, for example '4.8 TB/s'"
    assert caught.value.problems == (f"{mine}:{line}:14: {problem}",)


REQUEST = "request: {height: 500, width: -1, batch: 0, steps: many}\n"
WRONG = [
    "PATH:2:19: request.height: found 500, expected a multiple of 8; nearest: 496, 504",
    "PATH:2:31: request.width: found '-1', expected a whole number of at least 8 and at most 8192",
    "PATH:2:42: request.batch: found '0', expected a whole number of at least 1 and at most 1024",
    "PATH:2:52: request.steps: found 'many', expected a whole number of at least 1 and at most 1000",
]


@pytest.mark.parametrize("model", ["modle: stable-diffusion-1.5", "model: sd", "model: stable-diffusion-1"])
def test_a_wrong_model_hides_nothing_of_the_request(tmp_path: Path, model: str) -> None:
    path = write(tmp_path, f"{model}\n{REQUEST}device: a100-sxm-80gb\n")
    with pytest.raises(SpecError) as caught:
        load(path)
    lines = [line.replace(str(path), "PATH") for line in caught.value.problems]
    assert [line for line in lines if ": request." in line] == WRONG
    assert len(lines) == 1 + len(WRONG)


def test_without_a_model_what_all_models_refuse_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, f"level: physical\n{REQUEST}device: a100-sxm-80gb\n")
    with pytest.raises(SpecError) as caught:
        load(path)
    assert set(WRONG[2:3]) <= {line.replace(str(path), "PATH") for line in caught.value.problems}


def test_a_duplicate_field_hides_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, "model: stable-diffusion-1.5\nmodel: x\nlevel: fast\nname: !!int x\ndevice: a100-sxm-80gb\n")
    with pytest.raises(SpecError) as caught:
        load(path)
    assert [line.replace(str(path), "PATH") for line in caught.value.problems] == [
        "PATH:2:1: model: duplicate field; it is already set in line 1",
        "PATH:3:8: level: found 'fast', expected one of roofline, physical, calibrated",
        "PATH:4:7: found 'x', expected a number",
    ]


def test_a_device_file_shows_its_values_and_its_sources_at_once(tmp_path: Path) -> None:
    text = (
        dump(device.load("h100-sxm"))
        .replace("sm_count: 132", "sm_count: 0", 1)
        .replace("  hbm.latency:", "  hbm.latncy:")
    )
    mine = write(tmp_path, text, "mine.yaml")
    with pytest.raises(SpecError) as caught:
        load(write(tmp_path, "model: stable-diffusion-1.5\ndevice: mine.yaml\n"))
    fields = [line.removeprefix(f"{mine}:").split(": ")[1] for line in caught.value.problems]
    assert fields == ["device.sm_count", "device.hbm.latency", "device.sources.hbm.latncy"]


def test_the_file_beside_is_offered(tmp_path: Path) -> None:
    write(tmp_path, dump(device.load("h100-sxm")), "mychip.yaml")
    path = write(tmp_path, "model: stable-diffusion-1.5\ndevice: mychip\n")
    with pytest.raises(SpecError) as caught:
        load(path)
    assert caught.value.problems == (
        f"{path}:2:9: device: unknown device 'mychip'; write 'mychip.yaml' to read that file",
    )
    with pytest.raises(SpecError, match=r"/mychp.yaml: no such file; did you mean 'mychip.yaml'\?$"):
        load(tmp_path / "mychp.yaml")


def test_no_name_of_a_file_at_all() -> None:
    with pytest.raises(SpecError, match=r"^SCENARIO: empty; expected the path of a scenario's YAML file$"):
        load("")


def test_what_changes_no_result_is_said() -> None:
    line = "--set device.power.tdp: no time depends on it; energy, power, area or price may"
    assert without_effect(["device.power.tdp=1 kW", "device.sm_count=3", "name=x", "level=roofline"]) == [line]
    assert without_effect(["device.sm.shared_bandwidth=64 B/cycle"]) == [
        "--set device.sm.shared_bandwidth: no run depends on it; `framecast predict` of fp32 products does"
    ]
    assert without_effect(["device={base: a100-sxm-80gb}", "device.hbm={capacity: 1 GB}"]) == []


def test_one_more_problem_is_one() -> None:
    assert errors.shown(["x"] * 21)[-1] == "and 1 more problem"
    assert errors.shown(["x"] * 22)[-1] == "and 2 more problems"


@pytest.mark.parametrize(
    ("word", "offer"),
    [
        ("a100", "; did you mean 'a100-pcie' or 'a100-sxm'?"),
        ("A100-S", "; did you mean 'a100-sxm'?"),
        ("h10", "; did you mean 'h100'?"),
        ("h10o", "; did you mean 'h100'?"),
        ("x", ""),
    ],
)
def test_nearest(word: str, offer: str) -> None:
    assert errors.nearest(word, ["a100-sxm", "a100-pcie", "h100"]) == offer
