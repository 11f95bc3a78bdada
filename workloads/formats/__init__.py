"""Traces from and for other programs: told apart by what is in a file when read, by its ending when written."""

from __future__ import annotations

import os
from pathlib import Path

from hwspecs.errors import FramecastError, SpecError, nearest
from hwspecs.notes import say
from workloads.trace import Trace

WRITTEN = {
    ".npz": "framecast's own",
    ".parquet": "a table, one row a call",
    ".et": "MLCommons Chakra",
}  # ending -> what is in the file
_KNOWN = "expected a trace of framecast (.npz), Parquet, Chakra (.et), or a PyTorch Profiler trace (.json, .json.gz)"


def names_file(text: str) -> bool:
    """Whether what a user typed in place of a model's id is a file: by its ending, or because it names a folder."""
    return text.endswith((*WRITTEN, ".json", ".json.gz")) or os.sep in text


def load(path: Path | str) -> Trace:
    """The trace in a file: framecast's own, Parquet, Chakra, or a PyTorch Profiler timeline.

    Raises SpecError or StudyError, one line, for a file that is missing, truncated, foreign or of another version.
    """
    file = Path(path)
    try:
        with file.open("rb") as opened:
            start = opened.read(4096)
    except OSError as error:
        raise SpecError(f"{file}: cannot read the trace: {(error.strerror or str(error)).lower()}") from None
    from workloads import trace as own
    from workloads.formats import chakra, events, parquet

    if start[:2] == b"PK":
        return own.load(file)
    if parquet.is_parquet(start):
        return parquet.load(file)
    if events.is_timeline(start):
        from workloads.formats import profiler

        measured = profiler.load(file)
        for line in profiler.notes(measured):
            say(f"note: {file}: {line}")
        return measured.trace
    if chakra.is_chakra(start):
        return chakra.load(file)
    raise SpecError(f"{file}: a format that framecast does not know; {_KNOWN}")


def check_ending(path: Path | str) -> None:
    """Raise SpecError where a file's ending says no format that is written."""
    ending = Path(path).suffix
    if ending not in WRITTEN:
        endings = ", ".join(f"{known} ({what})" for known, what in WRITTEN.items())
        raise SpecError(f"--out {path}: unknown ending '{ending}'{nearest(ending, WRITTEN)}; expected {endings}")


def save(trace: Trace, path: Path | str) -> None:
    """Write a trace in the format of the file's ending, all of it or nothing. SpecError for an ending or path that cannot be."""
    check_ending(path)
    file = Path(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        try:
            _write(trace, temporary, file.suffix)
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, FramecastError) as error:
        why = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
        raise SpecError(f"--out {path}: cannot write the trace: {why}") from None


def _write(trace: Trace, path: Path, ending: str) -> None:
    from workloads import trace as own
    from workloads.formats import chakra, parquet

    if ending == ".npz":
        own.save(trace, path)
    elif ending == ".parquet":
        parquet.save(trace, path)
    else:
        path.write_bytes(chakra.to_bytes(trace))
