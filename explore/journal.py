"""The journal file of a study: held by one search at a time, mended after a kill, written a batch at a time."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hwspecs.errors import StudyError

START = b'{"op_code":'  # of every line that Optuna writes
LOCK_WAIT = 1.0  # s that another program (the dashboard) may hold the journal


class Journal:
    """A journal file of Optuna that keeps what a batch appends until it is written with one sync, not one a trial."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path = path
        self.file = file
        self.waiting: list[dict[str, Any]] | None = None
        self.lines = 0  # in the file when waiting began

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """To the file, or to what waits."""
        if self.waiting is None:
            self.file.append_logs(logs)
        else:
            self.waiting.extend(logs)

    def read_logs(self, start: int) -> Iterator[dict[str, Any]]:
        """Lines from number `start` on, those that wait behind those of the file."""
        if self.waiting is None:
            yield from self.file.read_logs(start)
            return
        if start < self.lines:
            yield from self.file.read_logs(start)
        yield from self.waiting[max(start - self.lines, 0) :]

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is appended inside waits for `flush`."""
        self.lines, self.waiting = self.path.read_bytes().count(b"\n"), []
        yield

    def flush(self) -> None:
        """Write what waits. OSError where that cannot be."""
        waiting, self.waiting = self.waiting or [], None
        if waiting:
            self.file.append_logs(waiting)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """An exclusive lock that ends with the process; a lock file of Optuna that a killed search left is removed."""
    import fcntl

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise StudyError(f"{path}: cannot write the study ({(error.strerror or str(error)).lower()})") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StudyError(f"{path}: another search is using it; wait for it, or start with --study NEW") from None
        lock = path.with_name(path.name + ".lock")
        until = time.monotonic() + LOCK_WAIT
        while lock.is_symlink() and time.monotonic() < until:
            time.sleep(0.05)
        lock.unlink(missing_ok=True)
        yield


def repair(path: Path) -> None:
    """Cut off a last line that a kill left unfinished. StudyError for a file that is no journal."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    for number, line in enumerate(content[:whole].splitlines(), start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or "op_code" not in entry:
            raise StudyError(f"{path}:{number}: not a journal of Optuna, or damaged; start with --study NEW")
    if whole and whole < len(content):
        os.truncate(path, whole)
    elif content and not whole and content[: len(START)] == START[: len(content)]:
        os.truncate(path, 0)
    elif content and not whole:
        raise StudyError(f"{path}:1: not a journal of Optuna, or damaged; start with --study NEW")
