"""The files of `--out DIR`: written under temporary names, then renamed, so that no file is ever half there."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from hwspecs.errors import SpecError
from sim.result import Result


def write(result: Result, folder: str) -> None:
    """scenario.resolved.yaml, result.json, ops.csv, timeline.json and plots/ in `folder`; SpecError if that cannot be."""
    out = Path(folder)
    missing = [path for path in (out, *out.parents) if not path.exists()]
    temporary = None
    try:
        out.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".framecast-", dir=out))
        for name, make in _files(result):
            (temporary / name).parent.mkdir(exist_ok=True)
            make(temporary / name)
        for path in sorted(p for p in temporary.rglob("*") if p.is_file()):
            target = out / path.relative_to(temporary)
            target.parent.mkdir(exist_ok=True)
            os.replace(path, target)
        missing = []
    except OSError as error:
        raise SpecError(f"--out {folder}: cannot write the results: {(error.strerror or str(error)).lower()}") from None
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
        for path in missing:
            _remove_empty(path)


def _files(result: Result) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Name and writer of each file."""
    from sim import plots, report
    from sim.trace_event import trace_events

    yield "scenario.resolved.yaml", lambda path: _text(path, result.scenario.resolved())
    yield "result.json", lambda path: _text(path, json.dumps(result.to_json(), indent=2) + "\n")
    yield "ops.csv", lambda path: _text(path, report.ops_csv(result))
    yield "timeline.json", lambda path: _text(path, json.dumps(trace_events(result)) + "\n")
    for suffix in ("png", "svg"):
        yield f"plots/breakdown.{suffix}", lambda path: plots.breakdown(result, path)
        yield f"plots/roofline.{suffix}", lambda path: plots.roofline(result, path)


def _text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _remove_empty(path: Path) -> None:
    """Take back a folder that this run made and left empty."""
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
