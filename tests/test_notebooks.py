"""The notebooks run, and hold what they print now."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import notebooks


@pytest.mark.parametrize("path", notebooks.notebooks(), ids=lambda p: p.name)
def test_it_runs_and_its_outputs_are_current(path: Path) -> None:
    assert notebooks.executed(path) == path.read_text(encoding="utf-8"), "run `python -m benchmarks.docs`"


@pytest.mark.parametrize("path", notebooks.notebooks(), ids=lambda p: p.name)
def test_it_is_a_notebook(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    assert all("outputs" in cell for cell in notebook["cells"] if cell["cell_type"] == "code")


def test_an_error_in_a_cell_is_raised(tmp_path: Path) -> None:
    cell = {"cell_type": "code", "id": "a", "source": ["1 / 0"]}
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": [cell]}))
    with pytest.raises(ZeroDivisionError):
        notebooks.executed(tmp_path / "a.ipynb")
