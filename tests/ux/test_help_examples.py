"""Every line under Examples in every --help works, in a folder that holds nothing but the examples."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import framecast

ROOT = Path(__file__).parents[2]
SLOW = (
    "measured",
    "pods",
    "serve",
    "project",
    "search",
    "sweep",
    "calib",
)  # commands that have tests of their own examples, or need a GPU


def _commands(group: click.Group, path: str = "framecast") -> Iterator[tuple[str, click.Command]]:
    """Every command with what is typed to reach it, groups too."""
    for name, command in sorted(group.commands.items()):
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")


def _examples(command: click.Command, path: str) -> list[str]:
    """The lines of the last section of a command's help."""
    text = CliRunner().invoke(command, ["--help"], prog_name=path, terminal_width=200).output
    _, _, examples = text.partition("Examples:\n")
    return [line.strip() for line in re.split(r"\nOptions:|\nCommands:", examples)[0].splitlines() if line.strip()]


ALL = [("framecast", framecast.commands()), *_commands(framecast.commands())]


@pytest.mark.parametrize(("path", "command"), ALL, ids=[path for path, _ in ALL])
def test_help_has_examples_that_begin_with_the_program(path: str, command: click.Command) -> None:
    lines = _examples(command, path)
    assert lines
    assert all(line.startswith("framecast ") for line in lines), lines
    assert any(line.startswith(path) for line in lines)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: the examples, and what the lines before this one wrote."""
    made = tmp_path_factory.mktemp("user")
    shutil.copytree(ROOT / "examples", made / "examples")
    (made / "docs").mkdir()
    shutil.copytree(ROOT / "docs/schema", made / "docs/schema")
    return made


RUN = [(path, command) for path, command in ALL if path.split()[1:2] and path.split()[1] not in SLOW]


@pytest.mark.parametrize(("path", "command"), RUN, ids=[path for path, _ in RUN])
def test_examples_work(path: str, command: click.Command, folder: Path) -> None:
    before = Path.cwd()
    os.chdir(folder)
    try:
        for line in _examples(command, path):
            _run(line)
    finally:
        os.chdir(before)


def _run(line: str) -> None:
    """One line: the command, `> FILE`, and of `| jq .key` that the key is there."""
    typed, _, filter_by = line.partition(" | ")
    typed, _, target = typed.partition(" > ")
    done = CliRunner().invoke(
        framecast.commands(), shlex.split(typed)[1:], prog_name="framecast", catch_exceptions=False
    )
    assert done.exit_code == 0, (line, done.output)
    assert done.stdout.strip()
    if target:
        Path(target).write_text(done.stdout, encoding="utf-8")
    if filter_by:
        assert filter_by.removeprefix("jq .") in json.loads(done.stdout)
