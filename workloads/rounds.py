"""A long command in parts: a line as each is done, with an estimate, and after a kill only what was left. For maintainers.

The journal is a file of `$FRAMECAST_CACHE`, a line a part as it is done, with the digests of the code that its captures rest on
and of the files that it wrote. A command that starts again leaves out what is there, unless the code has changed, or such a file
has been written by another since. The parts of a command that comes to its end are taken out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from workloads.cache import folder
from workloads.digest import code_of
from workloads.templates import file_of

SECONDS_A_CALL = 1.0e-3  # s of a capture, an assumption (one core of a server of 2024) until parts have been measured
ASSUMED = 30.0  # s for which that assumption counts beside what is measured: the first part imports torch


@dataclass(frozen=True)
class Part:
    """Something to do that is written to the files of some functions.

    Attributes:
        name: of all parts the only one of that name.
        functions: that build the modules, 'package.module.name'.
        calls: operator calls that it captures, about; what its share of the time is estimated by.
        do: does it; whether all is well.
    """

    name: str
    functions: tuple[str, ...]
    calls: int
    do: Callable[[], bool]


@dataclass(frozen=True)
class _Done:
    """A line of the journal: whether all was well, and by function the digests of code and file."""

    name: str
    well: bool
    seconds: float
    code: Mapping[str, str]
    files: Mapping[str, str]


def journal() -> Path:
    """Where the journal is, while a command goes on or after it was stopped."""
    return folder() / "regenerate.jsonl"


def done(parts: Iterable[Part]) -> dict[str, bool]:
    """The parts of the journal that need not be done again, and whether all was well with each."""
    held = _read()
    written = {function: digest for line in held.values() for function, digest in line.files.items()}
    unchanged = {function for function, digest in written.items() if digest == _file(function)}
    found = ((part, held[part.name]) for part in parts if part.name in held)
    return {p.name: line.well for p, line in found if set(p.functions) <= unchanged and line.code == _code(p.functions)}


def run(parts: Sequence[Part], *, anew: bool = False, say: Callable[[str], None] = print) -> bool:
    """Do what the journal does not hold. Returns whether all is well, with what it holds too.

    anew: without what it holds.
    """
    if anew:
        _forget(parts)
    known = done(parts)
    if known:
        say(f"{len(known)} of {len(parts)} parts were done before ({journal()})")
    left = [part for part in parts if part.name not in known]
    well, start, calls = all(known.values()), time.perf_counter(), 0
    for number, part in enumerate(left):
        begun = time.perf_counter()
        good = part.do()
        well, calls, now = well and good, calls + part.calls, time.perf_counter()
        _add(_Done(part.name, good, round(now - begun, 1), _code(part.functions), dict(_files(part.functions))))
        rest = sum(p.calls for p in left[number + 1 :])
        place = f"[{len(known) + number + 1} of {len(parts)}]"
        say(
            f"{place} {part.name}: {now - begun:.0f} s; {_minutes(now - start)} so far, {_left(now - start, calls, rest)}"
        )
    _forget(parts)
    return well


def estimate(parts: Sequence[Part]) -> str:
    """How long parts take on a quiet core, before any was measured: 'about 12 min'."""
    return f"about {_minutes(SECONDS_A_CALL * sum(p.calls for p in parts))}"


def _left(seconds: float, calls: int, rest: int) -> str:
    a_call = (seconds + ASSUMED) / (calls + ASSUMED / SECONDS_A_CALL)
    return f"about {_minutes(a_call * rest)} left" if rest else "done"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _code(functions: Iterable[str]) -> dict[str, str]:
    return {function: code_of(function) for function in functions}


def _files(functions: Iterable[str]) -> Iterable[tuple[str, str]]:
    return ((function, _file(function)) for function in functions)


def _file(function: str) -> str:
    path = file_of(function)
    return sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""


def _add(line: _Done) -> None:
    journal().parent.mkdir(parents=True, exist_ok=True)
    with journal().open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(line)) + "\n")


def _forget(parts: Iterable[Part]) -> None:
    """Take parts out of the journal; those of another command, which was stopped, stay."""
    names = {part.name for part in parts}
    rest = [line for name, line in _read().items() if name not in names]
    if rest:
        half = journal().with_suffix(".half")
        half.write_text("".join(json.dumps(asdict(line)) + "\n" for line in rest), encoding="utf-8")
        half.replace(journal())
    else:
        journal().unlink(missing_ok=True)


def _read() -> dict[str, _Done]:
    """Lines by part, the last of each, in the order of the file; a line that a kill cut short is left out."""
    found: dict[str, _Done] = {}
    for text in journal().read_text().splitlines() if journal().exists() else ():
        try:
            data: dict[str, Any] = json.loads(text)
        except json.JSONDecodeError:
            continue
        found.pop(data["name"], None)
        found[data["name"]] = _Done(**data)
    return found
