"""Captures of one key -> its family of templates, proven at captures that took no part. For maintainers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from workloads.borders import edges, tree
from workloads.join import join
from workloads.looped import Looped
from workloads.pool import (
    BUILT_IN,
    ENOUGH,
    FIRST,
    Pool,
    Sample,
    Ways,
    alternating,
    capture,
    counts_of,
    first,
    places_of,
    seeds,
    unlike_held,
)
from workloads.structure import Form, choices, template
from workloads.templates import NONE, Family, Template, chosen
from workloads.thin import thin
from workloads.trace import same

MORE, ROUNDS = 4, 9  # captures at a time, and rounds that look for more structures
A_ROUND = 3 * MORE  # captures in a round, at most
PROOFS = 3  # captures of a key that a template must give and took no part in finding it
LARGE = 1  # of the proofs, at sizes beyond those that it was found at
FEW = 4  # values of a count, at most, that may each be a structure
SURPRISES = 9  # times that samples unlike those held, or beside conditions, are captured
EDGES = 12  # of these, beside the conditions of a tree
ATTEMPTS = 3  # at templates that proofs do not contradict
SEED = 2  # of the draws near a rare structure


class Contradicted(Exception):  # noqa: N818  # a finding, caught by `workloads.regenerate`
    """A capture that a template does not give."""


@dataclass(frozen=True)
class Found:
    """The templates of a key, how many of the drawn requests they cover, and how many captures it took without proofs.

    samples: all that were drawn, those near a rare structure too.
    """

    family: Family
    covered: int
    drawn: int
    captures: int
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class _Grown:
    """A family, and by captured sample the structure whose template gives it, NONE where there is none."""

    family: Family
    leaves: Mapping[int, int]


def find_family(
    group: Sequence[Sample],
    far: Sequence[Sample],
    like: Family | None = None,
    ways: Ways = BUILT_IN,
    unlike: int = 0,
    more: Sequence[Sample] = (),
) -> Found:
    """The family of a key from its samples, the most usual first. Raises Contradicted where proofs keep failing.

    like: of a key that differs in the dtype; the first captures are then some of each of its structures.
    unlike: samples, as unlike those captured as there are, that the templates have to give before others prove them, as well as
        those beside the conditions of the tree, some like the most usual sample but for a number, and those at which dimensions
        are 1 (`workloads.thin`); while they do not give them all, they are searched for anew, with these and as many more.
    more: samples that may be captured too, none of them at first.
    """
    hints = min(s.signature.hints for s in group)
    places, fixed = places_of(np.array([s.signature.numbers for s in group], dtype=np.int64))
    empty = Family(places, fixed, NONE, ())
    whole = counts_of(places, hints)
    usual = group[0].signature.numbers
    group = alternating(empty, group)
    reserved = min(PROOFS - LARGE, len(group) // 3)  # left for proofs
    pool = Pool(empty, ways)
    pool.add(group[: len(group) - reserved])
    pool.usual = next((i for i, s in enumerate(pool.samples) if s.signature.numbers == usual), 0)
    chosen_first = first(len(pool.samples), pool.symbols) if like is None else seeds(like, pool.symbols)
    pool.capture({*chosen_first, pool.usual})
    pool.add(more)
    proofs = group[len(group) - reserved :]
    last: Contradicted | None = None
    for _ in range(ATTEMPTS):
        family = _settled(pool, whole, unlike)
        unseen = [s for s in [*proofs, *(pool.samples[i] for i in reversed(pool.rest))] if _promised(family, s)]
        beyond = [s for s in far if empty.symbols(s.signature.numbers) is not None]
        try:
            proven = prove(family, [*unseen[: PROOFS - LARGE], *beyond[:LARGE]], ways)
        except Contradicted as error:
            last = error
            proofs = []
            pool.add(group)
            tried = {s.signature.numbers for s in unseen[:MORE]}
            pool.capture([i for i in pool.rest if pool.samples[i].signature.numbers in tried])
            pool.capture(pool.rest[-MORE:])
            continue
        if not proven and len(group) > 1:
            raise Contradicted(f"no structure could be proven in {len(pool.held)} captures ({group[0].model})")
        count = sum(family.at(s.signature.numbers) is not None for s in group)
        return Found(family, count, len(group), len(pool.held), tuple(pool.samples))
    assert last is not None
    raise last


def _settled(pool: Pool, whole: frozenset[int], unlike: int) -> Family:
    """A family from what is held and what was captured to surprise it: see `find_family`."""
    grown, rng = _grow(pool, whole), random.Random(SEED)
    for _ in range(SURPRISES):
        family = grown.family
        pool.add(pool.ways.near(pool.samples[pool.usual], rng))
        wanted = [*unlike_held(pool, unlike), *_on_edges(pool, family, rng), *_thin(pool, family)]
        expected = {i: chosen(family.tree, pool.symbols[i]) for i in wanted}
        pool.capture(expected)
        given = (leaf == NONE or gives(family.templates[leaf], pool, i) for i, leaf in expected.items() if pool.held[i])
        if all(given):
            break
        grown = _grow(pool, whole)
    return grown.family


def _on_edges(pool: Pool, family: Family, rng: random.Random) -> list[int]:
    """Samples, not captured, at which a wrong condition of a family would show: see `workloads.borders.edges`."""
    rest = [i for i in pool.rest if chosen(family.tree, pool.symbols[i]) != NONE]
    if not rest:
        return []
    found = edges(family.tree, np.array([pool.symbols[i] for i in rest]), pool.symbols[pool.usual])
    return [rest[i] for i in rng.sample(found, min(EDGES, len(found)))]


def _thin(pool: Pool, family: Family) -> list[int]:
    """Samples, not captured, whose dimensions are 1 as those of no capture are: see `workloads.thin`."""
    held = [pool.symbols[i] for i, found in pool.held.items() if found is not None]
    rest = pool.rest
    return [rest[i] for i in thin(family, [pool.symbols[i] for i in rest], held)]


def prove(family: Family, group: Iterable[Sample], ways: Ways = BUILT_IN) -> int:
    """Compare with fresh captures; how many of the samples were captured and are as the family says. Raises Contradicted."""
    agreed = 0
    for sample in group:
        numbers = sample.signature.numbers
        trace = family.at(numbers)
        if trace is None:
            if _promised(family, sample):
                raise Contradicted(f"sizes are not whole at {numbers} ({sample.model})")
            continue
        fresh = capture(sample, replace(ways, capture=ways.proof or ways.capture))
        if fresh is None:  # a size that the module cannot take says nothing
            continue
        if not same(join("", {}, [ways.whole(sample, trace)]), fresh):
            raise Contradicted(f"the template is not the capture at {numbers} ({sample.model})")
        agreed += 1
    return agreed


def _promised(family: Family, sample: Sample) -> bool:
    """Whether a family has a template for a sample."""
    symbols = family.symbols(sample.signature.numbers)
    return symbols is not None and chosen(family.tree, symbols) != NONE


def grown_from(pool: Pool, whole: frozenset[int]) -> Family:
    """A family from what a pool holds, after more captures: see `find_family`. Nothing has proven it. Raises Contradicted."""
    return _grow(pool, whole).family


def _grow(pool: Pool, whole: frozenset[int]) -> _Grown:
    """A family from what is held, after captures where structures are rare or their border is not yet known."""
    fitted: dict[tuple[int, ...], Template | Looped | None] = {}
    rng = random.Random(SEED)
    grown = _grown(pool, whole, fitted)
    settled = False
    for _ in range(ROUNDS):
        if pool.ways.most and len(pool.held) > pool.ways.most:
            raise Contradicted(f"no end in {len(pool.held)} captures ({pool.samples[0].model})")
        wanted = _wanted(pool, grown, whole, rng)
        if not wanted:
            wanted = [] if settled else _doubtful(pool, grown)[:MORE]
            expected = {i: chosen(grown.family.tree, pool.symbols[i]) for i in wanted}
        else:
            expected = {}
        if not wanted:
            break
        pool.capture(wanted[:A_ROUND])
        made = grown.family.templates
        settled = bool(expected) and all(
            pool.held[i] is None or gives(made[leaf], pool, i) for i, leaf in expected.items()
        )
        grown = _grown(pool, whole, fitted)
    return grown


def _grown(pool: Pool, whole: frozenset[int], fitted: dict[tuple[int, ...], Template | Looped | None]) -> _Grown:
    """The family of what is held. `fitted`: templates by the samples that they were found from."""
    made: list[Template | Looped] = []
    apart = False
    leaves = {i: NONE for i, found in pool.held.items() if found is not None}
    for members in _structures(pool, whole).values():
        if len(members) < ENOUGH and not _alone(pool, members):
            continue
        if tuple(members) not in fitted:
            forms = [f for f in (pool.held[i] for i in members) if f is not None]
            got, missing = template(np.array([pool.symbols[i] for i in members]), forms, whole)
            if got is None and not pool.ways.quiet:
                print(f"  {missing} sizes without an expression in {len(members)} captures", flush=True)
            apart |= got is None and _taken_apart(pool, members, forms, whole)
            fitted[tuple(members)] = got
        found = fitted[tuple(members)]
        if found is not None:
            leaves.update(dict.fromkeys(members, len(made)))
            made.append(found)
    if apart:
        return _grown(pool, whole, fitted)
    _absorb(pool, made, leaves)
    used = sorted(set(leaves.values()) - {NONE})
    leaves = {i: used.index(leaf) if leaf != NONE else NONE for i, leaf in leaves.items()}
    if not leaves:
        return _Grown(pool.empty, leaves)
    whole_tree = tree(np.array([pool.symbols[i] for i in leaves]), np.array(list(leaves.values())))
    family = Family(pool.empty.places, pool.empty.fixed, whole_tree, tuple(made[i] for i in used))
    return _Grown(family, leaves)


def _taken_apart(pool: Pool, members: Sequence[int], forms: Sequence[Form], whole: frozenset[int]) -> bool:
    """Whether a structure of which a size has no expression is now several: see `_structures`."""
    key = forms[0].key
    before = pool.split.get(key)
    if before:
        return False
    found = pool.split[key] = choices(np.array([pool.symbols[i] for i in members]), forms, FEW, whole)
    return before is None or bool(found)


def _absorb(pool: Pool, made: Sequence[Template | Looped], leaves: dict[int, int]) -> None:
    """Give a template also those captures that it gives, though their structure is another: a loop that runs once or never.

    A template all of whose captures another one gives is left without any.
    """
    by_size = sorted(range(len(made)), key=lambda m: -list(leaves.values()).count(m))
    for m in by_size:
        mine = [i for i, leaf in leaves.items() if leaf == m]
        if not mine:
            continue
        for other in {*leaves.values()} - {m}:
            theirs = [i for i, leaf in leaves.items() if leaf == other]
            given = [i for i in theirs if gives(made[m], pool, i)] if other == NONE or len(theirs) <= len(mine) else []
            if other == NONE or len(given) == len(theirs):
                leaves.update(dict.fromkeys(given, m))


def gives(found: Template | Looped, pool: Pool, sample: int) -> bool:
    """Whether a template gives a capture."""
    held = pool.held[sample]
    assert held is not None
    try:
        trace = found.at(pool.symbols[sample])
    except (ArithmeticError, IndexError, ValueError):  # made for other sizes
        return False
    if trace is None or trace.calls != held.trace.calls or len(trace.tensor_bytes) != len(held.trace.tensor_bytes):
        return False
    return bool((trace.tensor_bytes >= 0).all()) and same(join("", {}, [trace]), held.trace)


def _wanted(pool: Pool, grown: _Grown, whole: frozenset[int], rng: random.Random) -> list[int]:
    """Samples to capture next: at sizes between structures, and of structures that have no template yet."""
    open_ = [i for i in pool.rest if chosen(grown.family.tree, pool.symbols[i]) == NONE]
    rare = {key: m for key, m in _structures(pool, whole).items() if grown.leaves[m[0]] == NONE}
    if not rare:
        return open_[:MORE]
    labels = {i: n for n, members in enumerate(rare.values()) for i in members}
    kinds = np.array([labels.get(i, len(rare) + leaf) for i, leaf in grown.leaves.items()])
    guess = tree(np.array([pool.symbols[i] for i in grown.leaves]), kinds)
    expected = Counter(chosen(guess, pool.symbols[i]) for i in pool.rest)
    wanted = [i for i in open_ if chosen(guess, pool.symbols[i]) == NONE][:MORE]
    for n, (key, members) in sorted(
        enumerate(rare.items()), key=lambda item: (pool.usual not in item[1][1], -expected[item[0]])
    ):
        if len(members) >= ENOUGH:  # no expression was found
            wanted += [i for i in pool.rest if chosen(guess, pool.symbols[i]) == n][:1] if len(members) < FIRST else []
            continue
        if expected[n] < ENOUGH and key not in pool.near:
            pool.near.add(key)
            pool.add(pool.ways.near(pool.samples[members[0]], rng))
        mine = [i for i in pool.rest if chosen(guess, pool.symbols[i]) == n]
        wanted += mine[: ENOUGH - len(members)]
    return list(dict.fromkeys(wanted))


def _doubtful(pool: Pool, grown: _Grown) -> list[int]:
    """Samples to which other conditions, that tell those captured apart as well, give other templates; most doubtful first."""
    labels = np.array(list(grown.leaves.values()))
    if len(set(labels.tolist())) < 2:
        return []
    symbols = np.array([pool.symbols[i] for i in grown.leaves])
    doubts: Counter[int] = Counter()
    for without in range(symbols.shape[1]):
        try:
            other = tree(symbols, labels, without)
        except ValueError:  # it takes that symbol
            continue
        doubts.update(
            i for i in pool.rest if NONE != chosen(grown.family.tree, pool.symbols[i]) != chosen(other, pool.symbols[i])
        )
    return [i for i, _ in doubts.most_common()]


def _structures(pool: Pool, whole: frozenset[int]) -> dict[bytes, list[int]]:
    """Captured samples by structure; one that cannot be captured has none.

    Where sizes of a structure have no expression, each value that those take which take few, an end of others, each value of a
    count of the stage's that takes few, and each pattern of numbers that are 1 (where copies need not be made) is a structure
    of its own.
    """
    few = [s for s in sorted(whole) if len({int(values[s]) for values in pool.symbols}) <= FEW]
    groups: dict[bytes, list[int]] = {}
    for i, found in pool.held.items():
        if found is not None:
            groups.setdefault(found.key + _case(pool, i, found, few), []).append(i)
    return groups


def _case(pool: Pool, sample: int, found: Form, few: Sequence[int]) -> bytes:
    """What tells a capture of a structure that is taken apart from others of it."""
    split = pool.split.get(found.key)
    if split is None:
        return b""
    own = pool.symbols[sample]
    return bytes(np.concatenate([own == 1, own[list(few)], split.of(found.trace, own)]).astype(np.int64).tobytes())


def _alone(pool: Pool, members: Sequence[int]) -> bool:
    """Whether a structure is there at a single value of a family's only symbol, beside which both neighbours are another."""
    values = {int(pool.symbols[i][0]) for i in members} if len(pool.symbols[0]) == 1 else set()
    if len(values) != 1:
        return len(members) == len(pool.samples)
    (value,) = values
    others = {int(pool.symbols[i][0]) for i, found in pool.held.items() if found is not None} - values
    least = value == min(int(s[0]) for s in pool.symbols)
    return value + 1 in others and (least or value - 1 in others)
