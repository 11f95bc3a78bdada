"""Every message of a `project:` section, word for word."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from explore.project import load as load_project
from explore.project_cli import project
from hwspecs.errors import SpecError
from sim.scenario import load
from tests.sim.toy import write
from workloads.model import models

FIELDS = "frames, sizes, seconds, frames_per_second, devices, axis, windows, strides, chunks"
VIDEO = "model: modelscope-t2v\ndevice: a100-sxm-80gb\n"


def problems(tmp_path: Path, text: str, *overrides: str) -> tuple[str, ...]:
    path = write(tmp_path, text)
    with pytest.raises(SpecError) as caught:
        load_project(load(path, overrides))
    return tuple(line.replace(str(path), "PATH") for line in caught.value.problems)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("", "PATH: project.frames: missing; expected frame counts, or lengths of clips under seconds"),
        (
            "project: {sizes: [256]}\n",
            "PATH:3:1: project.frames: missing; expected frame counts, or lengths of clips under seconds",
        ),
        (
            "project: {frames: [8, 16], size: [256]}\n",
            f"PATH:3:28: project.size: unknown field; did you mean 'sizes'? (allowed: {FIELDS})",
        ),
        ("project: {frames: 8}\n", "PATH:3:19: project.frames: found '8', expected a list"),
        (
            "project: {frames: []}\n",
            "PATH:3:11: project.frames: missing; expected frame counts, or lengths of clips under seconds",
        ),
        (
            "project: {frames: [8, sixteen]}\n",
            "PATH:3:23: project.frames.1: found 'sixteen', expected a whole number of at least 1",
        ),
        (
            "project: {frames: [8, 0]}\n",
            "PATH:3:23: project.frames.1: found '0', expected a whole number of at least 1",
        ),
        (
            "project: {frames: [8, -16]}\n",
            "PATH:3:23: project.frames.1: found '-16', expected a whole number of at least 1",
        ),
        (
            "project: {frames: [8, 300000]}\n",
            "PATH:3:23: project.frames.1: found '300000', expected a whole number of at least 1 and at most 262144",
        ),
        (
            "project: {frames: [8, 16, 8]}\n",
            "PATH:3:11: project.frames: 8 is listed twice; leave one of them out",
        ),
        (
            "project: {frames: [8, 16], sizes: [256, 250]}\n",
            "PATH:3:41: project.sizes.1: found 250, expected a multiple of 8; nearest: 248, 256",
        ),
        (
            "project: {frames: [8, 16], sizes: [[256, 250]]}\n",
            "PATH:3:42: project.sizes.0: found 250, expected a multiple of 8; nearest: 248, 256",
        ),
        (
            "project: {frames: [8, 16], sizes: [-256]}\n",
            "PATH:3:36: project.sizes.0: found '-256', expected a whole number of at least 8 and at most 8192",
        ),
        (
            "project: {frames: [8, 16], sizes: [256, big]}\n",
            "PATH:3:41: project.sizes.1: found 'big', expected a side in pixels, or [height, width]",
        ),
        (
            "project: {frames: [8, 16], sizes: [[256]]}\n",
            "PATH:3:36: project.sizes.0: found a list of 1, expected a side in pixels, or [height, width]",
        ),
        (
            "project: {frames: [8, 16], sizes: [256, [256, 256]]}\n",
            "PATH:3:28: project.sizes: 256 x 256 is listed twice; leave one of them out",
        ),
        ("project: [8, 16]\n", f"PATH:3:10: project: found a list of 2, expected fields ({FIELDS})"),
    ],
)
def test_a_problem_in_the_section(tmp_path: Path, section: str, message: str) -> None:
    assert problems(tmp_path, VIDEO + section) == (message,)


def test_every_problem_at_once(tmp_path: Path) -> None:
    assert problems(tmp_path, VIDEO + "project: {frames: [8, 999999, 777777], sizes: [250, [8, 9]]}\n") == (
        "PATH:3:23: project.frames.1: found '999999', expected a whole number of at least 1 and at most 262144",
        "PATH:3:31: project.frames.2: found '777777', expected a whole number of at least 1 and at most 262144",
        "PATH:3:48: project.sizes.0: found 250, expected a multiple of 8; nearest: 248, 256",
        "PATH:3:57: project.sizes.1: found 9, expected a multiple of 8; nearest: 8, 16",
    )


def test_an_override(tmp_path: Path) -> None:
    text = VIDEO + "project: {frames: [8, 16]}\n"
    assert problems(tmp_path, text, "project.sizes=[250]") == (
        "--set project.sizes: project.sizes.0: found 250, expected a multiple of 8; nearest: 248, 256",
    )
    assert problems(tmp_path, text, "project.frame=[8]") == (
        f"--set project.frame: unknown field; did you mean 'frames' or 'frames_per_second'? (allowed: {FIELDS})",
    )


@pytest.mark.parametrize(
    ("section", "place"), [("project: {frames: [8, 16]}\n", "PATH:3:1: project: "), ("", "PATH: ")]
)
def test_a_model_without_frames(tmp_path: Path, section: str, place: str) -> None:
    text = "model: stable-diffusion-1.5\ndevice: a100-sxm-80gb\n" + section
    having = ", ".join(name for name, model in models().items() if "frames" in model.request.__dataclass_fields__)
    line = f"model stable-diffusion-1.5 has no frames; models with frames: {having}"
    assert "modelscope-t2v" in having
    assert problems(tmp_path, text) == (place + line,)


def test_the_command_raises_them_before_any_work(tmp_path: Path) -> None:
    path = write(tmp_path, VIDEO + "project: {frames: [8, 0]}\n")
    ran = CliRunner().invoke(project, [str(path), "--out", str(tmp_path / "out")])
    assert isinstance(ran.exception, SpecError)
    assert not (tmp_path / "out").exists()
