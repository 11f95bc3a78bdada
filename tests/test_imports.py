"""Who may import whom, what is imported only inside functions, and what a warm run does not load."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY = {
    "hwspecs": {"hwspecs"},
    "workloads": {"hwspecs", "workloads"},
    "sim": {"hwspecs", "workloads", "sim"},
    "calib": {"hwspecs", "workloads", "sim", "calib"},
    "explore": {"hwspecs", "workloads", "sim", "explore"},
}
LIGHT = {"numpy", "pydantic", "pydantic_core", "yaml", "click"}  # what a module may import when it is imported itself
ANYWHERE = {
    "optuna": ("explore/study.py", "explore/samplers.py", "explore/storage.py", "explore/pods_search.py"),
    "dask": ("explore/cluster.py",),
    "matplotlib": (
        "sim/plots.py",
        "sim/slide.py",
        "sim/profile_plots.py",
        "explore/pods_plots.py",
        "explore/project_plots.py",
        "explore/plots.py",
        "explore/answer_plots.py",
        "explore/horizon_plots.py",
        "explore/paper/drawing.py",
        "calib/score.py",
        "calib/validate.py",
    ),
    "torch": ("workloads/", "calib/", "explore/samplers.py"),
    "diffusers": ("workloads/", "calib/"),
    "transformers": ("workloads/", "calib/"),
}
HEAVY = {
    "tabulate": (
        "sim/report.py",
        "calib/accuracy.py",
        "calib/make.py",
        "calib/score.py",
        "calib/accuracy_transfer.py",
        "calib/conv_alike.py",
        "calib/accuracy_intervals.py",
        "calib/accuracy_noise.py",
        "calib/few_accuracy.py",
        "calib/transfer_report.py",
        "calib/validate_report.py",
    ),
    "numba": ("sim/engine.py", "sim/issue.py"),
}  # files that a warm run imports late, or never
FILES = [p for package in MAY for p in sorted((ROOT / package).rglob("*.py"))]
WARM = """
import sys, json, framecast
sys.argv = ["framecast", "run", sys.argv[1], "--format", "json"]
try:
    framecast.main()
finally:
    print("loaded " + json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def _imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(top-level name of what is imported, whether that happens when the module is imported)."""
    tree = ast.parse(path.read_text())
    inner = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef) or _is_type_checking(outer)
        for node in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], id(node) not in inner) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield (node.module or "").partition(".")[0], id(node) not in inner


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_edges(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    package = name.partition("/")[0]
    for module, at_top in _imports(path):
        if module in {*MAY, "framecast", "tests"}:
            assert module in MAY[package], f"{name} imports {module}"
        elif module in ANYWHERE:
            assert name.startswith(ANYWHERE[module]), f"{name} imports {module}"
            assert not at_top, f"{name} imports {module} outside a function"
        elif at_top and module not in sys.stdlib_module_names:
            assert module in LIGHT or name in HEAVY.get(module, ()), f"{name} imports {module} outside a function"


def test_a_warm_run_loads_no_torch_and_is_quick(tmp_path: Path) -> None:
    environment = {**os.environ, "FRAMECAST_CACHE": str(tmp_path)}
    example = str(ROOT / "examples/stable-diffusion-a100.yaml")
    runs = [
        subprocess.run([sys.executable, "-c", WARM, example], env=environment, capture_output=True, text=True, cwd=ROOT)
        for _ in range(2)
    ]
    assert [r.returncode for r in runs] == [0, 0], runs[-1].stderr
    assert runs[0].stdout == runs[1].stdout
    assert json.loads(runs[1].stdout)["latency_s"] > 0
    loaded = set(json.loads(runs[1].stderr.partition("loaded ")[2]))
    unwanted = {"torch", "diffusers", "transformers", "optuna", "matplotlib", "pandas", "numba", "dask", "scipy"}
    assert not loaded & unwanted


def test_help_loads_no_numpy() -> None:
    code = "import sys, framecast\nsys.argv=['framecast','--help']\ntry:\n framecast.main()\nexcept SystemExit: pass\n"
    code += "print(sorted({'numpy','pydantic','yaml','torch','matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"
