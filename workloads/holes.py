"""`python -m workloads.holes [--draws N] [--stage NAME] [MODEL ...]`: templates that hold also where none was found.

Where a structure was met too rarely, a tree has no template; yet one that was found elsewhere may give what captures give there
(a size that a table was made for stands among draws of others, and parts them). This draws requests that fall into such a hole,
captures those most unlike each other, and where a template gives them all, it is the hole's from then on. A condition both sides
of which are one template by then goes, where captures between its ends are as that template says. What is left between two
structures is narrowed as by `workloads.gaps`.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

from workloads import gaps, samples
from workloads.gaps import Path, at_path, gives, put, symbols_of
from workloads.in_region import entries_of, write_entry
from workloads.model import Model
from workloads.pool import BUILT_IN, Pool, capture, unlike_held
from workloads.samples import Sample
from workloads.templates import NO, NONE, YES, Family, digest, family, family_data, side

DRAWS = 300  # requests of a model, twice: all over, and at the sizes of the default
SQUARES = range(256, 2049, 64)  # sides that users ask for, in pixels, of images as high as wide
LEAST, MOST = 3, 6  # captures that a template has to give to take a hole
LOW, HIGH = 3, 4  # places of a condition's ends in a node of a tree


def main(arguments: Sequence[str]) -> int:
    """Fill the holes of the models named, or of all. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workloads.holes", description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--stage", action="append", help="only stages of this name (may be repeated)")
    parser.add_argument("--draws", type=int, default=DRAWS, help=f"requests that are drawn (default: {DRAWS})")
    gaps.each_key(parser.parse_args(arguments), _drawn, _write_filled)
    return 0


def _drawn(model: Model, draws: int) -> Iterator[Sample]:
    """Stages of drawn requests, of ones of the default size, and of small batches of square images."""
    yield from samples.samples(model, draws, random.Random(6))
    usual = {name: getattr(model.request(), name) for name in ("height", "width") if hasattr(model.request(), name)}
    yield from samples.samples(model, draws, random.Random(7), **usual)
    for side_, batch, guidance in product(SQUARES if usual else (), (1, 2, 3), (True, False)):
        asked = {"height": side_, "width": side_, "batch": batch, "guidance": guidance}
        if (
            request := samples.valid(model, {n: v for n, v in asked.items() if hasattr(model.request(), n)})
        ) is not None:
            for dtype in samples.DTYPES:
                yield from samples.of_request(model, replace(request, dtype=dtype))


def _write_filled(key: str, group: Sequence[Sample]) -> None:
    """Write a key's templates with fewer holes, where there are any that samples fall into."""
    function, name = group[0].signature.function, digest(key)
    entries = entries_of(function)
    if name not in entries or "like" in entries[name]:
        return
    before = family(entries[name], entries)
    after = gaps.narrowed(filled(before, group), group)
    held = [sum(f.at(s.signature.numbers) is not None for s in group) for f in (before, after)]
    print(f"{key[:100]}: {held[0]} -> {held[1]} of {len(group)} sizes", flush=True)
    if held[1] > held[0]:
        write_entry(function, {**entries, name: {"key": key[:200], **family_data(after)}}, name)


def filled(found: Family, group: Sequence[Sample]) -> Family:
    """The family with a template in every hole that one was seen to hold in, and without conditions that part nothing."""
    tried: set[Path] = set()
    while (path := _next(found, group, tried)) is not None:
        tried.add(path)
        leaf = _that_gives(found, _inside(found, group, path))
        print(f"  {at_path(found.tree, path[:-1])[:5]}: {'none' if leaf == NONE else f'structure {leaf}'}", flush=True)
        if leaf != NONE:
            found = _simpler(replace(found, tree=put(found.tree, path, leaf)), path, group)
    return found


def _next(found: Family, group: Sequence[Sample], tried: set[Path]) -> Path | None:
    """The hole that most samples fall into, but for those tried; None where there is none."""
    holes: dict[Path, int] = {}
    for sample in group:
        path = _path(found, sample)
        if path is not None and path not in tried:
            holes[path] = holes.get(path, 0) + 1
    best = max(holes, key=lambda p: holes[p], default=None)
    return best if best is not None and holes[best] >= LEAST else None


def _path(found: Family, sample: Sample) -> Path | None:
    """The path to the leaf without a template that a sample falls into; None where it falls into none."""
    values = found.symbols(sample.signature.numbers)
    path: Path = ()
    tree = found.tree
    while values is not None and not isinstance(tree, int):
        at = side(tree, values)
        if at is None:
            return None
        path, tree = (*path, at), tree[at]
    return path if values is not None and tree == NONE else None


def _inside(found: Family, group: Sequence[Sample], path: Path) -> list[Sample]:
    """The samples that fall into a hole, MOST of them as unlike each other as there are."""
    return _unlike(found, [s for s in group if _path(found, s) == path])


def _unlike(found: Family, mine: Sequence[Sample]) -> list[Sample]:
    pool = Pool(replace(found, tree=NONE, templates=()), BUILT_IN, list(mine), [symbols_of(found, s) for s in mine])
    return [mine[i] for i in dict.fromkeys([0, *unlike_held(pool, MOST), *range(len(mine))])][:MOST]


def _that_gives(found: Family, chosen: Sequence[Sample]) -> int:
    """The template that gives the captures of all these samples, at least LEAST; NONE where there is none."""
    leaves, count = set(range(len(found.templates))), 0
    for sample in chosen:
        fresh = capture(sample, BUILT_IN)
        if fresh is not None:
            values, count = symbols_of(found, sample), count + 1
            leaves = {leaf for leaf in leaves if gives(found, leaf, values, fresh)}
        if not leaves:
            return NONE
    return min(leaves) if count >= LEAST else NONE


def _simpler(found: Family, path: Path, group: Sequence[Sample]) -> Family:
    """The family without the conditions above a leaf that part nothing, as far as captures between their ends agree."""
    while path:
        path = path[:-1]
        node = at_path(found.tree, path)
        if not isinstance(node[YES], int) or node[YES] != node[NO]:
            break
        between = _unlike_between(found, group, path)
        if (between or node[HIGH] > node[LOW] + 1) and _that_gives(found, between) != node[YES]:
            break
        found = replace(found, tree=put(found.tree, path, node[YES]))
    return found


def _unlike_between(found: Family, group: Sequence[Sample], path: Path) -> list[Sample]:
    mine = [
        s for s in group if (v := found.symbols(s.signature.numbers)) is not None and gaps.gap(found.tree, v) == path
    ]
    return _unlike(found, mine) if mine else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
