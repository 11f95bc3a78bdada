"""The errors that framecast raises on purpose, and how their problems read.

A problem is one line, `file:line:column: field: found, expected; nearest`. Wrong use of the
Python API is a plain ValueError or TypeError; `assert` is for our own mistakes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

SHOWN = 20  # problems of one file that are printed before the rest is counted
BEGINNING = 3  # letters from which on a word counts as the beginning of a name
OFFERED = 4  # names that a message offers at most
EXTRA = ("torch", "diffusers", "transformers")  # what a capture needs and a plain install does not bring
INSTALL = "pip install 'framecast[capture]'"  # what brings them


class FramecastError(Exception):
    """The root: `problems` holds one line each, `exit_code` is what the command line returns."""

    exit_code = 2

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(shown(self.problems)))


class SpecError(FramecastError, ValueError):
    """A file, a field or an option that cannot be read as what it should be."""


class InfeasibleError(FramecastError):
    """The scenario is well formed but cannot be: memory, power, a dtype that a device lacks."""

    exit_code = 3


class CalibrationError(FramecastError):
    """A measurement table or a fitted parameter set that cannot be used."""


class StudyError(FramecastError):
    """A stored study, sweep or cache that cannot be read or continued."""


def shown(problems: Sequence[str]) -> list[str]:
    """At most SHOWN lines; a last one counts what is left out."""
    rest = len(problems) - SHOWN
    return list(problems[:SHOWN]) + ([f"and {rest} more problem{'s' if rest > 1 else ''}"] if rest > 0 else [])


def nearest(word: str, allowed: Iterable[str]) -> str:
    """ "; did you mean 'x'?" for those of `allowed` that begin with `word`, else for the closest; "" if none is close."""
    return offered(closest(word, allowed))


def offered(names: Sequence[str]) -> str:
    """ "; did you mean 'x', 'y' or 'z'?", "" for no names."""
    quoted = [f"'{name}'" for name in names]
    return f"; did you mean {' or '.join(filter(None, (', '.join(quoted[:-1]), quoted[-1])))}?" if names else ""


def closest(word: str, allowed: Iterable[str]) -> list[str]:
    """At most OFFERED names that `word` begins, else the one that looks most like it, else none."""
    word, names = word.lower(), sorted(set(allowed))
    begun = [name for name in names if len(word) >= BEGINNING and name.lower().startswith(word)]
    if 0 < len(begun) <= OFFERED:
        return begun
    return difflib.get_close_matches(word, names, n=1, cutoff=0.55)
