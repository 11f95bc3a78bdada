"""`python -m workloads.verify [--seed N] [--far] [--mend] [MODEL ...]`: hold stored templates against fresh captures.

`workloads.regenerate` proves a template at a few requests. This looks for one that is wrong elsewhere, at requests drawn anew: of
every key it captures the smallest stages that were drawn, where structures change most, and others at random; of each way in
which dimensions of a template are 1 (`workloads.thin`) a stage, also of the least sides, frames and batches together
(`workloads.samples.least_together`); stages of requests that users make beside the default one (`workloads.samples.usual`),
those with one thing changed first; and stages on both sides of the conditions by which a template is chosen. With `--far`, of
sizes beyond those that templates are found at. With `--mend` a template that is wrong where some numbers are small (one sample,
two latents a side), and right elsewhere, does not hold there any more; one that is wrong elsewhere too holds nowhere. What has
none is then captured in a run, which says so.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from itertools import chain, combinations
from typing import Any

import numpy as np

from workloads import samples, templates
from workloads.borders import edges
from workloads.kind import Ints
from workloads.model import Model, find, models
from workloads.samples import Sample
from workloads.search import Contradicted, prove
from workloads.templates import NONE, Family, chosen, digest, file_of
from workloads.thin import thin
from workloads.within import leaves, numbered, pruned

SMALL, OTHERS = 4, 3  # captures of a key
USUAL, EDGES = 6, 12  # and of it, of usual requests, and beside the conditions of its tree
FIRST_USUAL = 4  # usual requests with one thing changed that are as many times as likely as others
LOW = 8  # the most that numbers are in a corner where a template is wrong and structures change at every number


def main(arguments: Sequence[str]) -> int:
    """Check the templates of the models named, or of all. Returns the exit code: 1 where a capture contradicts one."""
    parser = argparse.ArgumentParser(prog="python -m workloads.verify", description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--seed", type=int, default=2, help="of the requests that are drawn (default: 2)")
    for name, count, words in (
        ("usual", USUAL, "of usual requests"),
        ("edges", EDGES, "beside the conditions of its tree"),
    ):
        parser.add_argument(
            f"--{name}", type=int, default=count, metavar="N", help=f"captures of a key {words} ({count})"
        )
    parser.add_argument("--stage", action="append", help="only stages of this name (may be repeated)")
    parser.add_argument(
        "--far", action="store_true", help="draw numbers up to twice as large, none around the usual request"
    )
    parser.add_argument("--mend", action="store_true", help="take contradicted templates out of their files")
    asked = parser.parse_args(arguments)
    wanted = [find(name) for name in asked.models] or list(models().values())
    rng = random.Random(asked.seed)
    beside = {} if asked.far else samples.by_key(chain.from_iterable(map(_beside, wanted)))
    corners = {} if asked.far else samples.corners(wanted)
    drawn = samples.pool(wanted, rng, large=asked.far)
    right, wrong = 0, 0
    for function, keys in drawn.items():
        for key, group in keys.items():
            if not asked.stage or group[0].stage.name in asked.stage:
                sides = _checked(function, key, group, beside.get(key, ()), corners.get(key, ()), rng, asked)
                right, wrong = right + sides[0], wrong + sides[1]
        samples.forget()
    print(f"{right + wrong} captures, {wrong} not as a template says", flush=True)
    return 1 if wrong else 0


def _beside(model: Model) -> Iterator[Sample]:
    return samples.in_every_dtype(model, samples.usual(model))


def _checked(
    function: str,
    key: str,
    group: list[Sample],
    beside: Sequence[Sample],
    corners: Sequence[Sample],
    rng: random.Random,
    asked: argparse.Namespace,
) -> tuple[int, int]:
    """How many captures of a key are as templates say, and how many not; written without those where that is asked for.

    beside: of usual requests. Of a key that is the like of another, which the search proved, only those are captured.
    """
    path, name = file_of(function), digest(key)
    entries: dict[str, Any] = dict(templates.load(path)["families"]) if path.exists() else {}
    if name not in entries:
        return 0, 0
    family = templates.family(entries[name], entries)
    wanted = usual(family, beside, rng, asked.usual)
    if "like" not in entries[name]:
        wanted += picked(family, group, rng) + on_edges(family, [*beside, *group], asked.edges, rng)
        wanted += in_corners(family, [*corners, *group])
    right, wrong = _compared(key, family, list({s.signature.numbers: s for s in wanted}.values()))
    if wrong and asked.mend:
        _write(function, mended(entries, name, right, wrong))
    return len(right), len(wrong)


def _compared(key: str, family: Family, group: Sequence[Sample]) -> tuple[list[Ints], list[Ints]]:
    """Symbols of the samples that are as captured, and of those that are not; what the module cannot take says nothing."""
    sides: tuple[list[Ints], list[Ints]] = [], []
    for sample in group:
        symbols = family.symbols(sample.signature.numbers)
        assert symbols is not None
        try:
            if prove(family, [sample]):
                sides[0].append(symbols)
        except Contradicted as error:
            print(f"  {error}", flush=True)
            sides[1].append(symbols)
    print(f"{key[:100]}: {len(sides[0])} sizes as captured, {len(sides[1])} not", flush=True)
    return sides


def picked(family: Family, group: Sequence[Sample], rng: random.Random) -> list[Sample]:
    """Distinct samples that have a template: the smallest, and others at random."""
    own = _held(family, group)
    small = sorted(own, key=lambda numbers: (sum(n > 1 for n in numbers), sum(numbers)))
    rest = small[SMALL:]
    rng.shuffle(rest)
    return [own[numbers] for numbers in small[:SMALL] + rest[:OTHERS]]


def usual(family: Family, beside: Sequence[Sample], rng: random.Random, count: int) -> list[Sample]:
    """Samples of usual requests that have a template: the default one, and others at random, of which the first of those
    given, with one thing changed, are likelier."""
    own = list(_held(family, beside).values())
    weight = {
        s.signature.numbers: rng.random() ** (1 / (1 + FIRST_USUAL * (i < len(own) // 3))) for i, s in enumerate(own)
    }
    return [*own[:1], *sorted(own[1:], key=lambda s: -weight[s.signature.numbers])][:count]


def on_edges(family: Family, group: Sequence[Sample], count: int, rng: random.Random) -> list[Sample]:
    """Samples that have a template and lie beside a condition by which it was chosen (`workloads.borders.edges`), at random."""
    own = list(_held(family, group).values())
    if not own:
        return []
    symbols = np.array([family.symbols(s.signature.numbers) for s in own], dtype=np.int64)
    found = [own[i] for i in edges(family.tree, symbols, symbols[0])]
    return rng.sample(found, min(count, len(found)))


def in_corners(family: Family, group: Sequence[Sample]) -> list[Sample]:
    """Of each way in which dimensions are 1 a sample that has a template: see `workloads.thin`."""
    own = list(_held(family, group).values())
    symbols = [family.symbols(s.signature.numbers) for s in own]
    return [own[i] for i in thin(family, [v for v in symbols if v is not None])]


def _held(family: Family, group: Sequence[Sample]) -> dict[tuple[int, ...], Sample]:
    return {s.signature.numbers: s for s in group if family.at(s.signature.numbers) is not None}


def mended(entries: dict[str, Any], name: str, right: Sequence[Ints], wrong: Sequence[Ints]) -> dict[str, Any]:
    """Entries of a file in which each template of a key that is wrong somewhere does not hold where all that is wrong of it lies,
    and nothing that is right: see `corner`; or nowhere, where no corner tells the two apart or nothing of it is right.

    Without that entry, and those that are its like, where nothing of it is left, or where it is itself the like of another.
    """
    if "like" in entries[name]:
        return {n: e for n, e in entries.items() if n != name}
    tree = before = entries[name]["tree"]
    for leaf in {chosen(before, symbols) for symbols in wrong}:
        mine = [[s for s in side if chosen(before, s) == leaf] for side in (right, wrong)]
        found = corner(*(np.array(side, dtype=np.int64) for side in mine)) if mine[0] else None
        tree = _within(tree, leaf, found)
    left = sorted(leaves(tree) - {NONE})
    if not left:
        return {n: e for n, e in entries.items() if n != name and e.get("like") != name}
    kept = [entries[name]["templates"][leaf] for leaf in left]
    return {**entries, name: {**entries[name], "tree": numbered(pruned(tree), left), "templates": kept}}


def _within(tree: Any, leaf: int, found: tuple[tuple[int, int], ...] | None) -> Any:
    """A tree with nothing in place of one of its leaves in a corner (None: everywhere)."""
    if isinstance(tree, int):
        if tree != leaf or found is None:
            return NONE if tree == leaf else tree
        inside: Any = NONE
        for symbol, most in found:
            inside = [symbol, NONE, 0, most, most + 1, inside, leaf]
        return inside
    return [*tree[:5], *(_within(side, leaf, found) for side in tree[5:])]


def corner(right: Ints, wrong: Ints) -> tuple[tuple[int, int], ...] | None:
    """(symbol, the most that it is) of as few symbols as there may be, of which all that is wrong, and nothing that is right,
    has no more; of those, the least. None where LOW is not enough. right, wrong: (samples, symbols)."""
    most = wrong.max(axis=0)
    low = np.flatnonzero(most <= LOW).tolist()
    for count in range(1, len(low) + 1):
        boxes = [list(box) for box in combinations(low, count)]
        apart = [b for b in boxes if not (len(right) and (right[:, b] <= most[b]).all(axis=1).any())]
        if apart:
            best = min(apart, key=lambda b: most[b].tolist())
            return tuple((symbol, int(most[symbol])) for symbol in best)
    return None


def _write(function: str, entries: dict[str, Any]) -> None:
    if entries:
        templates.write(file_of(function), {"function": function, "families": entries})
    else:
        file_of(function).unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
