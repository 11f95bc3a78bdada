"""Templates of a key by those of one that differs in its dtypes alone. For maintainers.

Structures change with sizes, for the most part at the same ones in every dtype, whatever casts there are. So the borders are
taken from the other key, and of each of its structures a few captures in the key's own dtype make a template, which others
prove. A structure of which those captures are not one, or whose template a capture contradicts, has none.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from workloads import templates
from workloads.looped import Looped
from workloads.pool import BUILT_IN, ENOUGH, Pool, Sample, Ways, counts_of, unlike_held
from workloads.search import Contradicted, Found, grown_from, prove
from workloads.shallow import WHOLE, of_whole
from workloads.templates import NONE, Family, Template, chosen, digest
from workloads.within import leaves, numbered

PROOFS = 2  # captures that each template has to give and took no part in finding it; one of a larger size comes beside
MORE = 60  # captures, at most, that tell apart the structures that are one in the other dtype
SEED = 5  # of the draws of structures that were drawn too rarely
S = TypeVar("S", bound=Sample)


def kin_of(key: str, keys: Sequence[str], group: Sequence[Sample], entries: Mapping[str, Any]) -> Family | None:
    """The family of a key that differs in dtypes alone and covers most of the samples of a group; None where there is none."""
    own = _without_dtypes(key)
    named = [k for k in keys if k != key and digest(k) in entries and _without_dtypes(k) == own]
    families = [templates.family(entries[digest(k)], entries) for k in named]
    symbols = [f.symbols(group[0].signature.numbers) is not None for f in families]
    known = [f for f, same in zip(families, symbols, strict=True) if same and f.templates]
    return max(known, key=lambda f: len(covered(f, group)), default=None)


def _without_dtypes(key: str) -> str:
    return re.sub("fp16|bf16|fp32", "fp", key)


def covered(family: Family, group: Sequence[S]) -> list[S]:
    """The samples that a family has a template for."""
    return [s for s in group if family.at(s.signature.numbers) is not None]


def find_kin(group: Sequence[Sample], far: Sequence[Sample], kin: Family, ways: Ways = BUILT_IN) -> Found:
    """The family of a key from its samples, the most usual first, by the borders of another family.

    Raises Contradicted where no structure of that has a template here.
    """
    pool = Pool(replace(kin, tree=NONE, templates=()), ways)
    pool.add(group)
    parts = [_of_structure(pool, kin, leaf) for leaf in range(len(kin.templates))]
    family = _in_place(kin, parts)
    wrong = {leaf for leaf in range(len(family.templates)) if not _proven(pool, family, leaf, far)}
    used = [leaf for leaf in range(len(family.templates)) if leaf not in wrong]
    if not used:
        raise Contradicted(f"no structure of another dtype is one here ({group[0].model})")
    family = replace(family, tree=numbered(family.tree, used), templates=tuple(family.templates[i] for i in used))
    return Found(family, len(covered(family, group)), len(group), len(pool.held), tuple(pool.samples))


def _of_structure(pool: Pool, kin: Family, leaf: int) -> Family:
    """Templates where the other family has one: one as well, or several with borders of their own, or none."""
    _drawn_more(pool, kin, leaf)
    one = of_whole(pool, kin, leaf)
    if one is not None:
        return replace(pool.empty, tree=0, templates=(one,))
    mine = _of_leaf(pool, kin, leaf)
    held = {n: pool.held[i] for n, i in enumerate(mine) if i in pool.held}
    if len(held) < ENOUGH:
        return pool.empty
    near = replace(pool.ways, near=_near(pool, kin, leaf), most=len(held) + MORE)
    part = Pool(pool.empty, near, [pool.samples[i] for i in mine], [pool.symbols[i] for i in mine], held)
    part.known = {s.signature.numbers for s in part.samples}
    hints = min(s.signature.hints for s in part.samples)
    try:
        found = grown_from(part, counts_of(kin.places, hints))
    except Contradicted as error:
        print(f"  {error}", flush=True)
        return pool.empty
    pool.add(part.samples)
    index = {s.signature.numbers: i for i, s in enumerate(pool.samples)}
    pool.held.update({index[part.samples[n].signature.numbers]: form for n, form in part.held.items()})
    return found


def _near(pool: Pool, kin: Family, leaf: int) -> Callable[[Sample, random.Random], Iterator[Sample]]:
    """Samples near another that are where a family has that template."""

    def near(sample: Sample, rng: random.Random) -> Iterator[Sample]:
        return (s for s in pool.ways.near(sample, rng) if _leaf_at(kin, s) == leaf)

    return near


def _in_place(kin: Family, parts: Sequence[Family]) -> Family:
    """A family that has, where the other has a template, those of the part for it."""
    made: list[Template | Looped] = []
    trees = []
    for part in parts:
        trees.append(_shifted(part.tree, len(made)))
        made += part.templates
    return replace(kin, tree=_planted(kin.tree, trees), templates=tuple(made))


def _planted(tree: Any, trees: Sequence[Any]) -> Any:
    if isinstance(tree, int):
        return tree if tree == NONE else trees[tree]
    return [*tree[:5], _planted(tree[5], trees), _planted(tree[6], trees)]


def _shifted(tree: Any, by: int) -> Any:
    """A tree whose leaves count from `by`."""
    if isinstance(tree, int):
        return tree if tree == NONE else tree + by
    return [*tree[:5], _shifted(tree[5], by), _shifted(tree[6], by)]


def _drawn_more(pool: Pool, kin: Family, leaf: int) -> None:
    """Draw near the first sample of a structure that too few were drawn of."""
    mine = _of_leaf(pool, kin, leaf)
    if mine and len(mine) < WHOLE + PROOFS:
        pool.add(pool.ways.near(pool.samples[mine[0]], random.Random(SEED)))


def _of_leaf(pool: Pool, kin: Family, leaf: int) -> list[int]:
    return [i for i in range(len(pool.samples)) if chosen(kin.tree, pool.symbols[i]) == leaf]


def _proven(pool: Pool, family: Family, leaf: int, far: Sequence[Sample]) -> bool:
    """Whether captures that took no part are what a structure's template gives."""
    mine = _of_leaf(pool, family, leaf)
    held = {n: pool.held[i] for n, i in enumerate(mine) if i in pool.held}
    part = Pool(pool.empty, pool.ways, [pool.samples[i] for i in mine], [pool.symbols[i] for i in mine], held)
    unlike = unlike_held(part, PROOFS)
    picked = [part.samples[i] for i in dict.fromkeys([*unlike, *part.rest])][:PROOFS]
    beyond = [s for s in far if _leaf_at(family, s) == leaf]
    try:
        return prove(family, [*picked, *beyond[: 1 + PROOFS - len(picked)]], pool.ways) > 0
    except Contradicted as error:
        print(f"  {error}", flush=True)
        return False


def _leaf_at(family: Family, sample: Sample) -> int:
    symbols = family.symbols(sample.signature.numbers)
    return NONE if symbols is None else chosen(family.tree, symbols)


def filled(family: Family, other: Family) -> Family:
    """A family that has the templates of another where it has none itself; as it is where that is of other numbers."""
    if family.places.tolist() != other.places.tolist() or family.fixed.tolist() != other.fixed.tolist():
        return family
    tree = _filled(family.tree, _shifted(other.tree, len(family.templates)))
    used = sorted(leaves(tree) - {NONE})
    made = (*family.templates, *other.templates)
    return replace(family, tree=numbered(tree, used), templates=tuple(made[i] for i in used))


def _filled(tree: Any, other: Any) -> Any:
    if isinstance(tree, int):
        return other if tree == NONE else tree
    return [*tree[:5], _filled(tree[5], other), _filled(tree[6], other)]
