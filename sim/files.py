"""The files of `--out DIR`: written under temporary names, then renamed, so that no file is ever half there."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from hwspecs.errors import SpecError
from sim.result import Result

Files = Iterable[tuple[str, Callable[[Path], object]]]  # name below the folder, and what writes it to a path


REPORT, RESOLVED, RESULT = "report.html", "scenario.resolved.yaml", "result.json"  # names below the folder


def write(result: Result, folder: str) -> None:
    """Scenario, result.json, ops.csv, timeline.json, report.html and plots/ in `folder`; SpecError if that cannot be."""
    write_all(_files(result), folder)


def write_all(files: Files, folder: str, option: str = "--out") -> None:
    """Files of a command in `folder`, which is made where it is missing; all of them or none. SpecError if that cannot be.

    `option`: what named the folder, for the messages.
    """
    if not folder:
        raise SpecError(f"{option}: empty; expected the name of a folder")
    out, made = Path(folder), list(files)
    in_the_way = [line for name, _ in made if (line := _obstacle(out, out / name))]
    if in_the_way:
        raise SpecError(f"{option} {folder}: cannot write the results: {line}" for line in dict.fromkeys(in_the_way))
    missing = [path for path in (out, *out.parents) if not path.exists()]
    temporary = None
    try:
        out.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".framecast-", dir=out))
        for name, make in made:
            (temporary / name).parent.mkdir(exist_ok=True)
            make(temporary / name)
        for path in sorted(p for p in temporary.rglob("*") if p.is_file()):
            target = out / path.relative_to(temporary)
            target.parent.mkdir(exist_ok=True)
            os.replace(path, target)
        missing = []
    except OSError as error:
        raise SpecError(
            f"{option} {folder}: cannot write the results: {(error.strerror or str(error)).lower()}"
        ) from None
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
        for path in missing:
            _remove_empty(path)


def _obstacle(out: Path, target: Path) -> str:
    """What keeps `target` from being written below the folder `out`; '' if nothing does, or `out` itself cannot be."""
    if target.is_dir():
        return f"{target} is a folder"
    above = next((path for path in target.parents if path.exists()), out)
    if out in (above, *above.parents) and above != out:
        if not above.is_dir():
            return f"{above} is a file"
        if not os.access(above, os.W_OK | os.X_OK):
            return f"{above}: permission denied"
    return ""


def _files(result: Result) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Name and writer of each file."""
    from sim import html, plots, profile_plots, report
    from sim.trace_event import trace_events

    yield RESOLVED, lambda path: _text(path, result.scenario.resolved())
    yield RESULT, lambda path: _text(path, json.dumps(result.to_json(), indent=2) + "\n")
    yield "ops.csv", lambda path: _text(path, report.ops_csv(result))
    yield "timeline.json", lambda path: _text(path, json.dumps(trace_events(result)) + "\n")
    for suffix in ("png", "svg"):
        yield f"plots/breakdown.{suffix}", lambda path: plots.breakdown(result, path)
        yield f"plots/roofline.{suffix}", lambda path: plots.roofline(result, path)
        yield f"plots/step.{suffix}", lambda path: profile_plots.step(result, path)
        yield f"plots/memory.{suffix}", lambda path: profile_plots.memory(result, path)
    yield REPORT, lambda path: _text(path, html.page(result))


def text_file(text: str) -> Callable[[Path], object]:
    """What writes a text to a path."""
    return lambda path: _text(path, text)


def _text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _remove_empty(path: Path) -> None:
    """Take back a folder that this run made and left empty."""
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
