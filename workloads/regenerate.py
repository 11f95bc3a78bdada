"""`python -m workloads.regenerate [MODEL ...]`: find, prove and write the templates of the models (all of them without a name).

For every function that builds modules: stages of drawn requests are captured, sorted by structure, and each structure is fitted
(`workloads.fit`); then it is proven at captures that took no part. Nothing is written that one of those contradicts. Templates
that are there are proven first, and found anew only where they no longer hold; delete the file to start over.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwspecs.errors import FramecastError
from workloads import samples, templates
from workloads.borders import tree
from workloads.digest import code_of
from workloads.join import join
from workloads.kind import Ints
from workloads.looped import Looped
from workloads.model import find, models
from workloads.samples import Sample
from workloads.structure import Form, form, template
from workloads.templates import FOLDER, NONE, Family, Template, chosen, digest, file_of
from workloads.trace import Trace, same

DRAWS, LARGE_DRAWS = 200, 40  # requests drawn of a model; and at sizes beyond those that templates are found at
FIRST, MORE, ROUNDS = 16, 4, 5  # captures of a key at first, and in each of the rounds that look for more structures
TINY = 8  # at sizes where two symbols are at most this, structures change: half of what is captured is there
ENOUGH = 5  # captures of a structure that make a template
PROOFS = 3  # captures of a key that a template must give and took no part in finding it
LARGE = 1  # of the proofs, at sizes beyond those that it was found at


class Contradicted(Exception):  # noqa: N818  # a finding, caught below
    """A capture that a template does not give."""


@dataclass(frozen=True)
class Found:
    """The templates of a key, and how many of the drawn requests they cover."""

    family: Family
    covered: int
    drawn: int


def main(names: Sequence[str]) -> int:
    """Regenerate the templates of the models named, or of all. Returns the exit code."""
    try:
        wanted = [find(name) for name in names] or list(models().values())
    except FramecastError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    pools = pool(models().values(), random.Random(0), large=False)
    beyond = pool(models().values(), random.Random(1), large=True)
    functions = dict.fromkeys(s.signature.function for m in wanted for s in samples.of_request(m, m.request()))
    functions.update(dict.fromkeys(f for f in pools if any(_drawn_of(m.id, pools[f]) for m in wanted)))
    failed = [f for f in functions if not _regenerated(f, pools[f], beyond.get(f, {}), FOLDER)]
    for function in failed:
        print(f"error: {function}: no templates were written", file=sys.stderr)
    return 1 if failed else 0


def _drawn_of(model: str, keys: Mapping[str, Sequence[Sample]]) -> bool:
    return any(s.model == model for found in keys.values() for s in found)


def pool(wanted: Iterable[Any], rng: random.Random, *, large: bool) -> dict[str, dict[str, list[Sample]]]:
    """Samples of all models by function and key, shuffled."""
    drawn = [s for model in wanted for s in samples.samples(model, LARGE_DRAWS if large else DRAWS, rng, large=large)]
    found: dict[str, dict[str, list[Sample]]] = {}
    for key, group in sorted(samples.by_key(drawn).items()):
        rng.shuffle(group)
        found.setdefault(group[0].signature.function, {})[key] = group
    return found


def _regenerated(
    function: str, keys: Mapping[str, list[Sample]], beyond: Mapping[str, list[Sample]], folder: Path
) -> bool:
    """Prove or find and write the templates of a function, key by key; False where some contradict captures."""
    start, path = time.perf_counter(), file_of(function, folder)
    stored = templates.load(path)["families"] if path.exists() else {}
    entries = _kept(stored, keys)
    contradicted = False
    for key in sorted(keys, key=lambda k: ("fp16" not in k, k)):
        try:
            entry = _held(key, keys[key], entries) or _alias(key, keys[key], entries)
            entry = entry or _found(key, keys[key], beyond.get(key, []), entries)
        except Contradicted as error:
            print(f"{function}: {error}", file=sys.stderr)
            entries.pop(digest(key), None)
            contradicted = True
            continue
        entries[digest(key)] = {**entry, "code": code_of(function)}
        templates.write(path, {"function": function, "families": entries})
    if path.exists():
        print(f"{path.name}: {path.stat().st_size / 1e3:.1f} kB, {time.perf_counter() - start:.0f} s", flush=True)
    return not contradicted


def _kept(stored: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """The entries of keys that there still are."""
    wanted = {digest(key) for key in keys}
    return {name: entry for name, entry in stored.items() if name in wanted and entry.get("like", name) in wanted}


def _held(key: str, group: Sequence[Sample], entries: Mapping[str, Any]) -> dict[str, Any] | None:
    """The entry that a key has, if it still gives what captures give."""
    entry: dict[str, Any] | None = entries.get(digest(key))
    if entry is None:
        return None
    try:
        prove(templates.family(entry, entries), group[:PROOFS])
    except Contradicted as error:
        print(f"  found anew: {error}", flush=True)
        return None
    return entry


def _alias(key: str, group: Sequence[Sample], entries: Mapping[str, Any]) -> dict[str, Any] | None:
    """An entry that says that bf16 is fp16 with another name, where captures say so."""
    like = digest(key.replace("bf16", "fp16"))
    if like == digest(key) or like not in entries:
        return None
    entry = {"key": key[:200], "like": like, "dtypes": {"fp16": "bf16"}}
    try:
        covered = prove(templates.family(entry, entries), group[:PROOFS])
    except Contradicted:
        return None
    return entry if covered else None


def _found(key: str, group: list[Sample], far: list[Sample], entries: Mapping[str, Any]) -> dict[str, Any]:
    """A new entry. Raises Contradicted."""
    like = entries.get(digest(key.replace("fp32", "fp16"))) if "fp32" in key else None
    found = find_family(group, far, templates.family(like, entries) if like else None)
    count, share = len(found.family.templates), f"{found.covered} of {found.drawn}"
    print(f"  {key[:100]}: {count} structures, {share} drawn sizes", flush=True)
    return {
        "key": key[:200],
        "places": found.family.places.tolist(),
        "fixed": found.family.fixed.tolist(),
        "tree": found.family.tree,
        "templates": [templates.template_data(t) for t in found.family.templates],
    }


def prove(family: Family, group: Iterable[Sample]) -> int:
    """Compare with fresh captures; how many were covered. Raises Contradicted."""
    covered = 0
    for sample in group:
        numbers = sample.signature.numbers
        trace = family.at(numbers)
        if trace is None:
            continue
        fresh = _capture(sample)
        if fresh is not None and not same(join("", {}, [trace]), fresh):
            raise Contradicted(f"the template is not the capture at {numbers} ({sample.model})")
        covered += 1
    return covered


def _capture(sample: Sample) -> Trace | None:
    """None for a size that the module cannot take."""
    try:
        return samples.captured(sample)
    except (FramecastError, RuntimeError, ValueError) as error:
        print(
            f"  {sample.signature.function} at {sample.signature.numbers}: {str(error).splitlines()[0]}",
            file=sys.stderr,
        )
        return None


def _form(sample: Sample) -> Form | None:
    trace = _capture(sample)
    return None if trace is None else form(trace)


def find_family(group: list[Sample], far: list[Sample], like: Family | None = None) -> Found:
    """The family of a key from its samples. Raises Contradicted where proofs keep failing.

    like: of a key that differs in the dtype; the first captures are then some of each of its structures.
    """
    places, fixed = _places(np.array([s.signature.numbers for s in group], dtype=np.int64))
    drawn = Family(places, fixed, NONE, ())
    group = _alternating(drawn, group)
    symbols = [_symbols(drawn, s) for s in group]
    kept = len(group) - min(PROOFS - LARGE, len(group) // 3)  # the others are left for proofs
    first = _first(kept, symbols) if like is None else _seeds(like, symbols[:kept])
    held = {i: _form(group[i]) for i in first}
    for _ in range(ROUNDS):
        family = _grown(drawn, group[:kept], symbols, held)
        rest = [i for i in reversed(range(len(group))) if i not in held]
        promised = [i for i in rest if chosen(family.tree, symbols[i]) != NONE]
        broken = [i for i in promised if family.at(group[i].signature.numbers) is None]
        covered = [i for i in promised if i not in broken][: PROOFS - LARGE]
        proofs = [group[i] for i in covered]
        proofs += [s for s in far if drawn.symbols(s.signature.numbers) is not None][:LARGE]
        try:
            proven = prove(family, proofs)
            if broken:
                raise Contradicted(f"sizes are not whole at {group[broken[0]].signature.numbers} ({group[0].model})")
        except Contradicted as error:
            last = error
            held.update({i: _form(group[i]) for i in [*broken[:MORE], *covered, *rest[-MORE:]]})
            continue
        if not proven and len(group) > 1:
            raise Contradicted(f"no structure could be proven in {len(held)} captures ({group[0].model})")
        count = sum(family.at(s.signature.numbers) is not None for s in group)
        return Found(family, count, len(group))
    raise last


def _first(samples: int, symbols: Sequence[Ints]) -> range:
    """The samples that are captured at first: half as many where there are two symbols at most."""
    return range(min(FIRST if len(symbols[0]) > 2 else FIRST // 2, samples))


def _seeds(family: Family, symbols: Sequence[Ints]) -> list[int]:
    """ENOUGH samples of each of a family's structures."""
    if len(family.places) == 0 or int(family.places.max()) + 1 != len(symbols[0]):
        return list(_first(len(symbols), symbols))
    leaves: dict[int, list[int]] = {}
    for i, values in enumerate(symbols):
        leaves.setdefault(chosen(family.tree, values), []).append(i)
    return sorted(i for members in leaves.values() for i in members[:ENOUGH])


def _alternating(family: Family, group: Sequence[Sample]) -> list[Sample]:
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


def _places(numbers: Ints) -> tuple[Ints, Ints]:
    """`places` and `fixed` of a family (see there) from the numbers (samples, numbers) of its signatures."""
    seen: dict[bytes, int] = {}
    places = np.full(numbers.shape[1], NONE)
    for i, column in enumerate(numbers.T):
        if (column != column[0]).any():
            places[i] = seen.setdefault(column.tobytes(), len(seen))
    return places, np.where(places == NONE, numbers[0], 0)


def _grown(empty: Family, group: Sequence[Sample], symbols: Sequence[Ints], held: dict[int, Form | None]) -> Family:
    """A family from what is held, after captures where structures are rare or their border is not yet known."""
    for _ in range(ROUNDS):
        labels, groups = _labels(held)
        whole = tree(np.array([symbols[i] for i in labels]), np.array(list(labels.values())))
        rest = [i for i in range(len(group)) if i not in held]
        rare = {label for label, members in groups.items() if len(members) < ENOUGH}
        wanted = [i for i in rest if chosen(whole, symbols[i]) == NONE][:MORE]
        for label in sorted(rare):
            wanted += [i for i in rest if chosen(whole, symbols[i]) == label][: ENOUGH - len(groups[label])]
        if not wanted:
            break
        held.update({i: _form(group[i]) for i in wanted[: 3 * MORE]})
    labels, groups = _labels(held)
    made: dict[int, Template | Looped] = {}
    for label, members in groups.items():
        if len(members) >= ENOUGH or len(members) == len(symbols):
            forms = [held[i] for i in members]
            got, missing = template(np.array([symbols[i] for i in members]), [f for f in forms if f is not None])
            if got is None:
                print(f"  {missing} sizes without an expression in {len(members)} captures", flush=True)
            else:
                made[label] = got
    index = {label: i for i, label in enumerate(made)}
    leaves = np.array([index.get(label, NONE) for label in labels.values()])
    whole = tree(np.array([symbols[i] for i in labels]), leaves)
    return Family(empty.places, empty.fixed, whole, tuple(made.values()))


def _labels(held: Mapping[int, Form | None]) -> tuple[dict[int, int], dict[int, list[int]]]:
    """Sample -> number of its structure, and the samples of each. A sample that cannot be captured has none."""
    seen: dict[bytes, int] = {}
    labels = {i: seen.setdefault(found.key, len(seen)) for i, found in held.items() if found is not None}
    groups: dict[int, list[int]] = {}
    for i, label in labels.items():
        groups.setdefault(label, []).append(i)
    return labels, groups


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
