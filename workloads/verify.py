"""`python -m workloads.verify [--seed N] [--far] [--mend] [MODEL ...]`: hold stored templates against fresh captures.

`workloads.regenerate` proves a template at a few requests. This looks for one that is wrong elsewhere, at requests drawn anew: of
every key it captures the smallest stages that were drawn, where structures change most, and others at random; with `--far`, of
sizes beyond those that templates are found at. With `--mend` a key that is wrong where some numbers are small (one sample, two
latents a side), and right elsewhere, has no template there any more; one that is wrong elsewhere too is taken out of its file.
Either is then captured in a run, which says so.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from workloads import samples, templates
from workloads.kind import Ints
from workloads.model import find, models
from workloads.samples import Sample
from workloads.search import Contradicted, prove
from workloads.templates import NONE, Family, digest, file_of
from workloads.within import pruned

SMALL, OTHERS = 4, 3  # captures of a key
LOW = 4  # the most that numbers are in a corner where a template is wrong and structures change at every number


def main(arguments: Sequence[str]) -> int:
    """Check the templates of the models named, or of all. Returns the exit code: 1 where a capture contradicts one."""
    parser = argparse.ArgumentParser(prog="python -m workloads.verify", description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--seed", type=int, default=2, help="of the requests that are drawn (default: 2)")
    parser.add_argument(
        "--far", action="store_true", help="draw numbers up to twice as large, none around the usual request"
    )
    parser.add_argument("--mend", action="store_true", help="take contradicted templates out of their files")
    asked = parser.parse_args(arguments)
    wanted = [find(name) for name in asked.models] or list(models().values())
    rng = random.Random(asked.seed)
    wrong = [
        _checked(function, keys, rng, asked.mend)
        for function, keys in samples.pool(wanted, rng, large=asked.far).items()
    ]
    return 1 if any(wrong) else 0


def _checked(function: str, keys: dict[str, list[Sample]], rng: random.Random, mend: bool) -> bool:
    """Whether some key of a function is wrong; written without it where that is asked for."""
    path, found = file_of(function), False
    entries: dict[str, Any] = dict(templates.load(path)["families"]) if path.exists() else {}
    for key, group in keys.items():
        if digest(key) not in entries or "like" in entries[digest(key)]:  # proven by the search to be the same
            continue
        family = templates.family(entries[digest(key)], entries)
        right, wrong = _compared(key, family, picked(family, group, rng))
        found = found or bool(wrong)
        if wrong and mend:
            entries = mended(entries, digest(key), right, wrong)
            _write(function, entries)
    samples.forget()
    return found


def _compared(key: str, family: Family, chosen: Sequence[Sample]) -> tuple[list[Ints], list[Ints]]:
    """Symbols of the samples that are as captured, and of those that are not."""
    sides: tuple[list[Ints], list[Ints]] = [], []
    for sample in chosen:
        symbols = family.symbols(sample.signature.numbers)
        assert symbols is not None
        try:
            prove(family, [sample])
            sides[0].append(symbols)
        except Contradicted as error:
            print(f"  {error}", flush=True)
            sides[1].append(symbols)
    print(f"{key[:100]}: {len(sides[0])} sizes as captured, {len(sides[1])} not", flush=True)
    return sides


def picked(family: Family, group: Sequence[Sample], rng: random.Random) -> list[Sample]:
    """Distinct samples that have a template: the smallest, and others at random."""
    own = {s.signature.numbers: s for s in group if family.at(s.signature.numbers) is not None}
    small = sorted(own, key=lambda numbers: (sum(n > 1 for n in numbers), sum(numbers)))
    rest = small[SMALL:]
    rng.shuffle(rest)
    return [own[numbers] for numbers in small[:SMALL] + rest[:OTHERS]]


def mended(entries: dict[str, Any], name: str, right: Sequence[Ints], wrong: Sequence[Ints]) -> dict[str, Any]:
    """Entries of a file in which one has no template where all that is wrong lies, and nothing that is right: see `corner`;
    without that entry, and those that are its like, where no corner tells the two apart."""
    found = corner(*(np.array(side, dtype=np.int64) for side in (right, wrong)))
    if found is None:
        return {n: e for n, e in entries.items() if n != name and e.get("like") != name}
    whole = entries[name]["tree"]
    tree: Any = NONE
    for symbol, most in found:
        tree = [symbol, NONE, 0, most, most + 1, tree, whole]
    return {**entries, name: {**entries[name], "tree": pruned(tree)}}


def corner(right: Ints, wrong: Ints) -> tuple[tuple[int, int], ...] | None:
    """(symbol, the most that it is) of as few symbols as there may be, of which all that is wrong, and nothing that is right,
    has no more; of those, the least. None where LOW is not enough. right, wrong: (samples, symbols)."""
    most = wrong.max(axis=0)
    low = np.flatnonzero(most <= LOW).tolist()
    for count in range(1, len(low) + 1):
        boxes = [list(chosen) for chosen in combinations(low, count)]
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
