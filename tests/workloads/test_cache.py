"""The cache of traces: warm without torch, other steps warm, damage and unwritable folders survived."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwspecs.errors import StudyError
from tests.workloads.conftest import MODEL
from workloads import cache, capture, trace
from workloads.cache import trace_of
from workloads.model import find
from workloads.trace import Trace

REQUEST = find(MODEL).request


@pytest.fixture(autouse=True)
def no_templates(monkeypatch: pytest.MonkeyPatch, sd: Trace) -> None:
    """What is cached is what no template covers: here nothing is covered. The session's trace is made before."""
    assert sd.calls
    monkeypatch.setattr(cache, "stage_trace", lambda *_: None)


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch, sd: Trace) -> list[str]:
    """Names the models that are captured in a test; a capture answers with the session's trace."""
    made: list[str] = []

    def fake(model: Any, *_: Any) -> Trace:
        made.append(model.id)
        return sd

    monkeypatch.setattr(cache, "_capture", fake)
    return made


def same(a: Trace, b: Trace) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in trace._ARRAYS) and (
        (a.segments, a.request, a.paths) == (b.segments, b.request, b.paths)
    )


def test_other_steps_are_warm(sd: Trace, captures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMECAST_CACHE", str(tmp_path))
    trace_of(MODEL, REQUEST())
    found = trace_of(MODEL, REQUEST(steps=20))
    assert captures == [MODEL]
    assert [s.repeats for s in found.segments] == [2, 20, 1]
    assert found.request["steps"] == 20
    assert found.flops() < sd.flops()


@pytest.mark.parametrize("change", [{"height": 520}, {"batch": 2}, {"guidance": False}, {"dtype": "bf16"}])
def test_what_changes_the_capture_is_captured(
    change: dict[str, Any], captures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAMECAST_CACHE", str(tmp_path))
    trace_of(MODEL, REQUEST())
    trace_of(MODEL, REQUEST(**change))
    trace_of(MODEL, REQUEST(**change))
    assert len(captures) == 2


def test_a_library_of_another_version_is_captured_again(
    captures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAMECAST_CACHE", str(tmp_path))
    trace_of(MODEL, REQUEST(height=528))
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"{name} 0")
    trace_of(MODEL, REQUEST(height=528))
    assert len(captures) == 2


def test_a_damaged_entry_is_rebuilt(
    sd: Trace, captures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FRAMECAST_CACHE", str(tmp_path))
    trace_of(MODEL, REQUEST())
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(entry.read_bytes()[:-100])
    capsys.readouterr()
    assert same(trace_of(MODEL, REQUEST()), sd)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (f"warning: {entry}: not a framecast trace, or damaged; capturing again\n")
    trace_of(MODEL, REQUEST())
    assert len(captures) == 2
    assert list(tmp_path.iterdir()) == [entry]


def test_an_unwritable_folder_goes_on_without_the_cache(
    sd: Trace, captures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("FRAMECAST_CACHE", str(blocked / "cache"))
    assert same(trace_of(MODEL, REQUEST()), sd)
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {blocked}/cache/{MODEL}-")
    assert said.endswith(
        "cannot write the trace: Not a directory; going on without the cache "
        "(set FRAMECAST_CACHE to a folder that can be written)\n"
    )
    assert captures == [MODEL]


def test_an_entry_that_cannot_be_read_is_rebuilt(
    sd: Trace, captures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(_path: Path) -> Trace:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setenv("FRAMECAST_CACHE", str(tmp_path))
    trace_of(MODEL, REQUEST())
    monkeypatch.setattr(trace, "load", refused)
    capsys.readouterr()
    assert same(trace_of(MODEL, REQUEST()), sd)
    assert capsys.readouterr().err.endswith(".npz: cannot be read (Permission denied); capturing again\n")
    assert len(captures) == 2


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_capture_leaves_nothing(
    interruption: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise interruption

    monkeypatch.setenv("FRAMECAST_CACHE", str(tmp_path))
    monkeypatch.setattr(capture, "capture", interrupted)
    with pytest.raises(interruption):
        trace_of(MODEL, REQUEST())
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_nothing(sd: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(file: Any, **_: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trace.save(sd, tmp_path / "t.npz")
    assert list(tmp_path.iterdir()) == []


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("FRAMECAST_CACHE")
    assert cache.folder() == tmp_path / "framecast"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / ".cache" / "framecast"


def test_warm_loads_no_torch(sd: Trace, captures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMECAST_CACHE", str(tmp_path))
    trace_of(MODEL, REQUEST())
    assert captures == [MODEL]
    program = (
        "import sys\nfrom workloads import cache\nfrom workloads.cache import trace_of\n"
        "from workloads.model import find\ncache.stage_trace = lambda *_: None\n"
        f"found = trace_of('{MODEL}', find('{MODEL}').request())\n"
        "print(found.calls, [m for m in ('torch', 'diffusers', 'transformers', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
        env={**os.environ, "FRAMECAST_CACHE": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout == f"{sd.calls} []\n"
    assert done.stderr == ""
    assert time.perf_counter() - start < 5  # 0.3 s on a quiet machine


def test_round_trip(sd: Trace, tmp_path: Path) -> None:
    trace.save(sd, tmp_path / "new" / "t.npz")
    assert same(trace.load(tmp_path / "new" / "t.npz"), sd)


def problem_of(path: Path, whole: Trace) -> str:
    """'damaged' for a StudyError of one line; '' where the file still holds the whole trace."""
    try:
        return "" if same(trace.load(path), whole) else "another trace"
    except StudyError as error:
        return "damaged" if re.fullmatch(re.escape(f"{path}: ") + r"[^\n]+", str(error)) else str(error)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_damage_is_noticed(sd: Trace, shared_cache: Path, data: st.DataObject) -> None:
    """A changed byte or a cut gives a StudyError of one line, or (in zip's own spare fields) the same trace."""
    path = shared_cache / "damaged.trace"
    trace.save(sd, path)
    stored = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(stored) - 1))
    if data.draw(st.booleans()):
        stored[at] ^= data.draw(st.integers(1, 255))
    else:
        del stored[at:]
    path.write_bytes(stored)
    assert problem_of(path, sd) in ("", "damaged")


def test_messages_of_traces_that_cannot_be_read(sd: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.npz"
    with pytest.raises(StudyError, match=r"t.npz: cannot read the trace: No such file or directory$"):
        trace.load(path)
    path.write_text("hello")
    with pytest.raises(StudyError, match=r"t.npz: not a framecast trace, or damaged; delete it and capture again$"):
        trace.load(path)
    monkeypatch.setattr(trace, "SCHEMA_VERSION", 0)
    trace.save(sd, path)
    monkeypatch.undo()
    with pytest.raises(StudyError, match=r"t.npz: trace schema version is 0, expected 1; delete it and capture again$"):
        trace.load(path)
    monkeypatch.setattr(trace, "_ARRAYS", trace._ARRAYS[1:])
    trace.save(sd, path)
    monkeypatch.undo()
    with pytest.raises(StudyError, match=r"t.npz: the trace lacks op_kind; delete it and capture again$"):
        trace.load(path)
