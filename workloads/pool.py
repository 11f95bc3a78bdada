"""Samples of a key, what was captured of them, and which are captured first. For maintainers."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np

from hwspecs.errors import FramecastError
from workloads import samples, tables, templates
from workloads.kind import Ints
from workloads.signature import Signature
from workloads.structure import Form, Split, form
from workloads.templates import NONE, Family, chosen
from workloads.trace import Trace

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
FIRST = 16  # captures of a key at first
ENOUGH = 5  # captures of a structure that make a template
LOW = 1 / 3  # of the values that are drawn of a symbol: so many are low
TINY = 8  # at sizes where two symbols are at most this, structures change: half of what is captured is there


class Sample(Protocol):
    """A stage of a request: `workloads.samples.Sample`, or one of a user's own model."""

    @property
    def model(self) -> str:
        """For messages."""

    @property
    def signature(self) -> Signature:
        """Its numbers, and what else it depends on."""


@dataclass(frozen=True)
class Ways:
    """How samples are captured (SpecError, RuntimeError or ValueError where one cannot be), and drawn near another.

    Where a library cuts up what a template has in one piece, proofs are of what it runs: `proof` captures that, `whole` makes it
    of what a template gives. most: captures that a search may take, 0: any number.
    """

    capture: Callable[[Any], Trace] = lambda sample: samples.uncut(sample)
    near: Callable[[Any, random.Random], Iterable[Any]] = samples.siblings
    quiet: bool = False  # about sizes that cannot be captured
    proof: Callable[[Any], Trace] | None = None  # None: `capture`
    whole: Callable[[Any, Trace], Trace] = lambda _, trace: trace
    most: int = 0


BUILT_IN = Ways(
    near=tables.siblings,
    proof=lambda sample: samples.captured(sample),
    whole=lambda sample, trace: templates.whole(sample.stage, trace),
)


@dataclass
class Pool:
    """Samples of a key that may be captured, the values of their symbols, and the captures so far, by sample."""

    empty: Family
    ways: Ways
    samples: list[Sample] = field(default_factory=list)
    symbols: list[Ints] = field(default_factory=list)
    held: dict[int, Form | None] = field(default_factory=dict)
    known: set[tuple[int, ...]] = field(default_factory=set)
    usual: int = 0  # the sample whose structure comes first: of the default request
    near: set[bytes] = field(default_factory=set)  # structures that were drawn near to
    split: dict[bytes, Split] = field(default_factory=dict)  # structures taken apart by some sizes: see `_structures`

    def add(self, found: Iterable[Sample]) -> None:
        """Add those of other sizes."""
        for sample in found:
            values = self.empty.symbols(sample.signature.numbers)
            if values is not None and sample.signature.numbers not in self.known:
                self.known.add(sample.signature.numbers)
                self.samples.append(sample)
                self.symbols.append(values)

    def capture(self, wanted: Iterable[int]) -> None:
        """Capture some, those first whose modules are alike."""
        for i in sorted(wanted, key=lambda i: self.samples[i].signature.module):
            trace = capture(self.samples[i], self.ways)
            self.held[i] = None if trace is None else form(trace)

    @property
    def rest(self) -> list[int]:
        """Those that were not captured."""
        return [i for i in range(len(self.samples)) if i not in self.held]


def capture(sample: Sample, ways: Ways) -> Trace | None:
    """None for a size that the module cannot take."""
    try:
        return ways.capture(sample)
    except (FramecastError, RuntimeError, ValueError) as error:
        where = f"{sample.signature.function} at {sample.signature.numbers}"
        if not ways.quiet:
            print(f"  {where}: {str(error).splitlines()[0]}", file=sys.stderr)
        return None


def first(count: int, symbols: Sequence[Ints]) -> range:
    """The samples that are captured at first: half as many where there are two symbols at most."""
    return range(min(FIRST if len(symbols[0]) > 2 else FIRST // 2, count))


def seeds(family: Family, symbols: Sequence[Ints]) -> list[int]:
    """ENOUGH samples of each of a family's structures."""
    if len(family.places) == 0 or int(family.places.max()) + 1 != len(symbols[0]):
        return list(first(len(symbols), symbols))
    leaves: dict[int, list[int]] = {}
    for i, values in enumerate(symbols):
        leaves.setdefault(chosen(family.tree, values), []).append(i)
    return sorted(i for members in leaves.values() for i in members[:ENOUGH])


def unlike_held(pool: Pool, count: int) -> list[int]:
    """Samples, not captured, most unlike those that are: other symbols at their least or low, or new values. Small ones first."""
    every = np.array(pool.symbols)
    low = np.array([every.min(axis=0), np.quantile(every, LOW, axis=0)])
    met = {feature for i in pool.held for feature in _features(pool.symbols[i], low)}
    rest = pool.rest
    found: list[int] = []
    while rest and len(found) < count:
        best = max(rest, key=lambda i: (_new(pool.symbols[i], low, met), -int(pool.symbols[i].sum())))
        if not _new(pool.symbols[best], low, met):
            break
        found.append(best)
        rest.remove(best)
        met.update(_features(pool.symbols[best], low))
    return found


def _features(symbols: Ints, low: Floats) -> list[tuple[int, ...]]:
    """Which symbols are at their least, which are low, and each with its value. low: (2, symbols), the least and what is low."""
    return [
        tuple((symbols > low).sum(axis=0).tolist()),
        *((symbol, int(value)) for symbol, value in enumerate(symbols)),
    ]


def _new(symbols: Ints, low: Floats, met: set[tuple[int, ...]]) -> int:
    """How many features are met for the first time; which symbols are at their least or low counts as much as all values."""
    levels, *values = _features(symbols, low)
    return len(symbols) * (levels not in met) + sum(value not in met for value in values)


def alternating(family: Family, group: Sequence[Sample]) -> list[Sample]:
    """Tiny ones and others in turn, as far as there are both."""
    tiny = [s for s in group if (_symbols(family, s) <= TINY).sum() > 1]
    others = [s for s in group if (_symbols(family, s) <= TINY).sum() <= 1]
    pairs = [s for pair in zip(tiny, others, strict=False) for s in pair]
    both = min(len(tiny), len(others))
    return [*pairs, *tiny[both:], *others[both:]]


def _symbols(family: Family, sample: Sample) -> Ints:
    found = family.symbols(sample.signature.numbers)
    assert found is not None
    return found


def places_of(numbers: Ints) -> tuple[Ints, Ints]:
    """`places` and `fixed` of a family (see there) from the numbers (samples, numbers) of its signatures."""
    seen: dict[bytes, int] = {}
    places = np.full(numbers.shape[1], NONE)
    for i, column in enumerate(numbers.T):
        if (column != column[0]).any():
            places[i] = seen.setdefault(column.tobytes(), len(seen))
    return places, np.where(places == NONE, numbers[0], 0)


def counts_of(places: Ints, hints: int) -> frozenset[int]:
    """The symbols that are numbers of a stage's `counts` and no size."""
    sizes = set(places[: len(places) - hints].tolist())
    return frozenset(set(places.tolist()) - sizes - {NONE})
