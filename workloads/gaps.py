"""`python -m workloads.gaps [--draws N] [MODEL ...]`: templates at sizes that lie between two structures.

A border between two structures is known as far as captures lie on both sides of it; between the nearest two no template is
chosen. This draws requests whose numbers fall between, halves what is open capture by capture, and proves the templates at
others that are covered then.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from workloads import samples, templates
from workloads.digest import code_of
from workloads.join import join
from workloads.kind import Ints
from workloads.model import Model, find, models
from workloads.pool import BUILT_IN, capture
from workloads.samples import Sample
from workloads.search import Contradicted, prove
from workloads.templates import NO, NONE, YES, Family, chosen, digest, file_of, side
from workloads.trace import Trace, same

DRAWS = 300  # requests of a model
MOST = 8  # captures of a border, at most
PROOFS = 2  # captures that a border takes beside
SIZE = ("height", "width")
Path: TypeAlias = tuple[int, ...]  # to a node of a tree: positions within each


def main(arguments: Sequence[str]) -> int:
    """Narrow what is open in the templates of the models named, or of all. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workloads.gaps", description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--stage", action="append", help="only stages of this name (may be repeated)")
    parser.add_argument(
        "--draws", type=int, default=DRAWS, help=f"requests that are drawn of a model (default: {DRAWS})"
    )
    each_key(parser.parse_args(arguments), _drawn, _narrow)
    return 0


def each_key(
    asked: argparse.Namespace,
    drawn: Callable[[Model, int], Iterator[Sample]],
    do: Callable[[str, Sequence[Sample]], None],
) -> None:
    """Do something with the drawn samples of every key of the models and stages that are asked for."""
    for model in [find(name) for name in asked.models] or models().values():
        for key, group in samples.by_key(drawn(model, asked.draws)).items():
            if not asked.stage or group[0].stage.name in asked.stage:
                do(key, group)
        samples.forget()


def _drawn(model: Model, draws: int) -> Iterator[Sample]:
    """Stages of drawn requests; of ones of the default size; and of ones of the default size and number of frames."""
    yield from samples.samples(model, draws, random.Random(3))
    for seed, names in ((4, SIZE), (5, (*SIZE, "frames"))):
        usual = {name: getattr(model.request(), name) for name in names if hasattr(model.request(), name)}
        yield from samples.samples(model, draws, random.Random(seed), **usual)


def _narrow(key: str, group: Sequence[Sample]) -> None:
    """Write a key's templates with narrower gaps, where there are any that samples fall into."""
    function = group[0].signature.function
    path = file_of(function)
    entries: dict[str, Any] = dict(templates.load(path)["families"]) if path.exists() else {}
    entry = entries.get(digest(key))
    if entry is None or "like" in entry or entry["code"] != code_of(function):
        return
    family = templates.family(entry, entries)
    found = narrowed(family, group)
    if found.tree != family.tree:
        entries[digest(key)] = {**entry, "tree": found.tree}
        templates.write(path, {"function": function, "families": entries})
    held = [sum(f.at(s.signature.numbers) is not None for s in group) for f in (family, found)]
    print(f"{key[:100]}: {held[0]} -> {held[1]} of {len(group)} sizes", flush=True)


def narrowed(family: Family, group: Sequence[Sample]) -> Family:
    """The family with every gap that samples fall into halved until none does, as far as captures are what its templates give."""
    for path, first in _open(family, group).items():
        try:
            family = _closed(family, path, first)
        except Contradicted as error:
            print(f"  {error}", flush=True)
    return family


def _open(family: Family, group: Sequence[Sample]) -> dict[Path, list[Sample]]:
    """The samples that fall into each gap, by the path to its node."""
    found: dict[Path, list[Sample]] = {}
    for sample in group:
        symbols = family.symbols(sample.signature.numbers)
        path = None if symbols is None else gap(family.tree, symbols)
        if path is not None:
            found.setdefault(path, []).append(sample)
    return found


def gap(tree: Any, symbols: Ints) -> Path | None:
    """The path to the node between whose ends the symbols fall; None where they come to a leaf."""
    path: Path = ()
    while not isinstance(tree, int):
        at = side(tree, symbols)
        if at is None:
            return path
        path, tree = (*path, at), tree[at]
    return None


def _closed(family: Family, path: Path, group: Sequence[Sample]) -> Family:
    """The family with one gap narrowed. Raises Contradicted where it is neither structure, or a template is wrong in it then."""
    start, tried = family, set()
    for _ in range(MOST):
        inside = [s for s in group if gap(family.tree, symbols_of(family, s)) == path]
        if not inside:
            break
        symbol = at_path(family.tree, path)[0]
        inside.sort(key=lambda s: int(symbols_of(family, s)[symbol]))
        sample = inside[len(inside) // 2]
        tried.add(sample.signature.numbers)
        family = _on_a_side(family, path, sample)
    more = [s for s in group if s.signature.numbers not in tried and family.at(s.signature.numbers) is not None]
    prove(family, more[:: max(1, len(more) // PROOFS)])
    print(f"  {at_path(start.tree, path)[:5]} is {at_path(family.tree, path)[:5]}", flush=True)
    return family


def _on_a_side(family: Family, path: Path, sample: Sample) -> Family:
    """The family with a gap's end moved to a sample, by what its capture is. Raises Contradicted where it is neither."""
    symbols, node = symbols_of(family, sample), at_path(family.tree, path)
    fresh = capture(sample, BUILT_IN)
    value = int(symbols[node[0]])
    for at, end in ((YES, 3), (NO, 4)):
        leaf = chosen(node[at], symbols)
        if fresh is not None and leaf != NONE and gives(family, leaf, symbols, fresh):
            moved = [*node[:end], value, *node[end + 1 :]]
            return replace(family, tree=put(family.tree, path, moved))
    raise Contradicted(f"neither structure at {sample.signature.numbers} ({sample.model})")


def gives(family: Family, leaf: int, symbols: Ints, fresh: Trace) -> bool:
    """Whether a template of a family gives a capture."""
    try:
        trace = family.templates[leaf].at(symbols)
    except (ArithmeticError, IndexError, ValueError):  # made for other sizes
        return False
    return trace is not None and same(join("", {}, [trace]), fresh)


def symbols_of(family: Family, sample: Sample) -> Ints:
    """The values of a family's symbols for one of its samples."""
    found = family.symbols(sample.signature.numbers)
    assert found is not None
    return found


def at_path(tree: Any, path: Path) -> Any:
    """The part of a tree at a path."""
    for at in path:
        tree = tree[at]
    return tree


def put(tree: Any, path: Path, node: Any) -> Any:
    """A tree with another node at a path."""
    if not path:
        return node
    at = path[0]
    return [*tree[:at], put(tree[at], path[1:], node), *tree[at + 1 :]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
