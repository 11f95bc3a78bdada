"""Every message of a scenario, word for word."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwspecs.device import device_names
from hwspecs.errors import SpecError
from hwspecs.spec import dump
from sim.scenario import load
from tests.sim.toy import write

GOOD = "model: stable-diffusion-1.5\ndevice: a100-sxm-80gb\n"
IDS = ", ".join(device_names())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("device: a100-sxm-80gb\n", "PATH: model: missing; expected a model's id (`framecast models` lists them)"),
        ("model: 3\ndevice: a100-sxm-80gb\n", "PATH:1:8: model: found '3', expected a model's id"),
        (
            "model: stable-difusion-1.5\ndevice: a100-sxm-80gb\n",
            "PATH:1:8: model: unknown model 'stable-difusion-1.5'; did you mean 'stable-diffusion-1.5'?"
            " (known: modelscope-t2v, stable-diffusion-1.5)",
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
            " (allowed: height, width, batch, steps, guidance, dtype)",
        ),
        (
            GOOD + "request: {height: 500}\n",
            "PATH:3:11: request.height: found 500, expected a multiple of 8; nearest: 496, 504",
        ),
        (GOOD + "level: fast\n", "PATH:3:8: level: found 'fast', expected one of roofline, physical"),
        (GOOD + "name: 3\n", "PATH:3:7: name: found '3', expected text, in quotes"),
        (
            GOOD + "softwar: pytorch-eager\n",
            "PATH:3:1: softwar: unknown field; did you mean 'software'?"
            " (allowed: name, model, request, device, software, level, sweep, search, project, pods)",
        ),
        (GOOD + "device: h100-sxm\n", "PATH:3:1: device: duplicate field; it is already set in line 2"),
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
        ("device.sm_count=0", "device.sm_count: found '0', expected a whole number of at least 1"),
        ("request.height=500", "request.height: found 500, expected a multiple of 8; nearest: 496, 504"),
        (
            "software.attention=flash",
            "software.attention: found 'flash', expected one of unfused, flash-2, auto; did you mean 'flash-2'?",
        ),
        ("device=a100", f"device: unknown device 'a100' (allowed: {IDS})"),
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
