"""The folder of a sweep in chunks: a manifest of what it is of, and each finished chunk as one whole Parquet file.

A file is written under a hidden name, which readers of Parquet pass over, and then renamed; so whatever a kill leaves, `points`
can be read. One sweep at a time writes to a folder: the lock on it ends with the process.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

from numpy.typing import NDArray

from explore.identity import changed, way_out
from hwspecs.errors import SpecError, StudyError

Columns: TypeAlias = dict[str, NDArray[Any]]
MANIFEST, POINTS = "sweep.json", "points"
HALF = ".half"  # ending of a file that is being written
ANOTHER = "give another folder to --out"


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """The folder, made where it is missing, for this sweep alone. SpecError: it cannot be written; StudyError: one is writing."""
    import fcntl

    try:
        (folder / POINTS).mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / POINTS, os.O_RDONLY)
    except OSError as error:
        raise unwritable(folder, error) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StudyError(f"{folder}: another sweep is writing to it; wait for it, or {ANOTHER}") from None
        yield
    finally:
        os.close(lock)


def opened(folder: Path, now: Mapping[str, Any]) -> set[int]:
    """Chunks that a folder that is held has files of; what a kill left half written is removed.

    now: what the sweep is of, written as the manifest where there is none. StudyError where the folder is of another sweep.
    """
    manifest = folder / MANIFEST
    try:
        for left in (*folder.glob(f".{MANIFEST}{HALF}"), *(folder / POINTS).glob(f"*part-*{HALF}")):
            left.unlink()
        names = (p.stem.removeprefix("part-") for p in (folder / POINTS).glob("part-*.parquet"))
        found = {int(number) for number in names if number.isdigit()}
        stored = _manifest(manifest)
        if stored is not None:
            _check(now, stored, manifest, len(found))
            return found
        if found:
            raise StudyError(f"{folder}: holds points of a sweep without its {MANIFEST}; {ANOTHER}")
        half = _half(manifest)
        half.write_text(json.dumps(now, indent=2) + "\n", encoding="utf-8")
        os.replace(half, manifest)
    except OSError as error:
        _half(manifest).unlink(missing_ok=True)
        raise unwritable(folder, error) from None
    return set()


def read(folder: Path, chunk: int, rows: int, names: set[str]) -> Columns | None:
    """A chunk that was written before; None where the file is damaged, or has not those rows and columns."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(_part(folder, chunk), partitioning=None)
    except (OSError, pa.ArrowException):
        return None
    if table.num_rows != rows or not names <= set(table.column_names):
        return None
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}


def written(priced: Iterable[tuple[int, Columns]], folder: Path) -> Iterator[tuple[int, Columns]]:
    """Each chunk once its file is there; one is written while the next is priced. SpecError where that cannot be."""
    with ThreadPoolExecutor(1) as pool:
        last = None
        for chunk, columns in priced:
            if last is not None:
                last[0].result()
                yield last[1]
            last = pool.submit(_write, folder, chunk, columns), (chunk, columns)
        if last is not None:
            last[0].result()
            yield last[1]


def unwritable(folder: Path, error: OSError) -> SpecError:
    """What to say of a folder that cannot be written."""
    text = (error.strerror or str(error)).lower()
    return SpecError(f"--out {folder}: cannot write the sweep: {text}; the same command goes on where it stopped")


def _write(folder: Path, chunk: int, columns: Columns) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    target = _part(folder, chunk)
    half = _half(target)
    try:
        parquet.write_table(pa.table(columns), half, compression="zstd", use_dictionary=False)
        os.replace(half, target)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise unwritable(folder, error) from None


def _part(folder: Path, chunk: int) -> Path:
    return folder / POINTS / f"part-{chunk:06d}.parquet"


def _half(target: Path) -> Path:
    """The hidden name under which a file is written."""
    return target.with_name(f".{target.name}{HALF}")


def _manifest(path: Path) -> dict[str, Any] | None:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(stored["space"], dict)
        assert isinstance(stored["scenario"], dict)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AssertionError):
        raise StudyError(f"{path}: damaged, or no sweep's; {ANOTHER}") from None
    return dict(stored)


def _check(now: Mapping[str, Any], stored: Mapping[str, Any], path: Path, done: int) -> None:
    changes = changed((stored["space"], now["space"]), (stored["scenario"], now["scenario"]))
    sizes = [
        f"{k} was {stored.get(k)}, is {now[k]}" for k in ("points", "chunk") if stored.get(k) != now[k] and not changes
    ]
    if changes or sizes:
        text = way_out([*changes, *sizes], ANOTHER)
        raise StudyError(f"{path}: space changed since chunk {done}: {text}")
