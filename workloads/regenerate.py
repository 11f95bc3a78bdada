"""`python -m workloads.regenerate [--more] [--anew] [MODEL ...]`: find, prove and write the templates of the models (all of
them without a name).

For every function that builds modules: stages of drawn requests are captured, sorted by structure, and each structure is fitted
(`workloads.fit`); then it is proven at captures that took no part. Nothing is written that one of those contradicts. Where a key
differs from another in dtypes alone, its borders are tried first (`workloads.kin`). Templates that are there are proven first,
and found anew where they no longer hold; with `--more` also where they cover little of what is drawn (or not all of a region),
and what is found takes their place if it covers more. At the end come the regions of each model (`workloads.regions`), where
captures of other requests would be mixed in. What other code made and none of this proves is taken out.

A line a part says how long it took and how long the rest will; after a kill the same command goes on with the part that was not
done (`workloads.rounds`; `--anew`: from the start). What a search did not find is written down with the reason
(`workloads.unfound`), and not searched for again by the same code.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import Any, TypeAlias

from hwspecs.errors import FramecastError
from workloads import regions, rounds, samples, tables, templates, unfound
from workloads.digest import code_of
from workloads.kin import filled, find_kin, kin_of
from workloads.model import Model, find, models
from workloads.pool import BUILT_IN
from workloads.rounds import Part
from workloads.samples import Sample
from workloads.search import PROOFS, Contradicted, Found, find_family, prove
from workloads.templates import Family, digest, file_of
from workloads.thin import thin

MOST = 0.9  # of the drawn sizes: a family that covers less is found anew
CAPTURES = 400  # of a search, at most
SEARCH = 40  # captures that a search takes, about: for the estimate
TRIED = 12  # captures, at most, for one that can be compared with an entry that covers nothing drawn
CALLS = 1000  # of a capture that no template says the calls of: for the estimate
Groups: TypeAlias = Mapping[str, Sequence[Sample]]  # by key


def main(arguments: Sequence[str]) -> int:
    """Regenerate the templates of the models named, or of all.

    Returns the exit code: 1 where a search came to nothing that was not known to; 2 for an unknown model.
    """
    parser = argparse.ArgumentParser(prog="python -m workloads.regenerate", description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--more", action="store_true", help="search again where templates hold and cover little")
    parser.add_argument("--anew", action="store_true", help="from the start, where it was stopped before")
    asked = parser.parse_args(arguments)
    try:
        wanted = [find(name) for name in asked.models] or list(models().values())
    except FramecastError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    parts = [*_of_functions(wanted, asked.more), *_of_regions(wanted, asked.more)]
    functions = dict.fromkeys(f for part in parts for f in part.functions)
    print(f"{len(parts)} parts of {len(functions)} functions, {rounds.estimate(parts)} on a quiet core", flush=True)
    well = rounds.run(parts, anew=asked.anew, say=lambda line: print(line, flush=True))
    for function in functions:
        _without_old(function)
    return 0 if well else 1


def _of_functions(wanted: Sequence[Model], more: bool) -> Iterator[Part]:
    """A part for every key of every function that the models use."""
    drawn = samples.pool(models().values(), random.Random(0), large=False)
    pools = {f: {key: tables.usual_first(group) for key, group in keys.items()} for f, keys in drawn.items()}
    beyond = samples.pool(models().values(), random.Random(1), large=True)
    corners = samples.corners(models().values())
    functions = dict.fromkeys(s.signature.function for m in wanted for s in samples.of_request(m, m.request()))
    functions.update(dict.fromkeys(f for f in pools if any(_drawn_of(m.id, pools[f]) for m in wanted)))
    for function in functions:
        keys, far = pools[function], beyond.get(function, {})
        for key in sorted(keys, key=lambda k: ("fp16" not in k, k)):
            do = partial(_regenerated, function, key, keys, far.get(key, []), corners.get(key, []), more=more)
            yield Part(
                f"{_short(key)} {digest(key)}{' more' * more}", (function,), _calls(function, key, keys[key]), do
            )


def _of_regions(wanted: Sequence[Model], more: bool) -> Iterator[Part]:
    """A part for every region of the models."""
    for model in wanted:
        for region in regions.regions_of(model, *(() if more else ("--kept",))):
            stages = samples.in_every_dtype(model, [model.request(**regions.fields_of(region.fields))])
            mine = samples.by_key(s for s in stages if not region.stage or s.stage.name in region.stage)
            functions = tuple(dict.fromkeys(group[0].signature.function for group in mine.values()))
            calls = sum(_calls(group[0].signature.function, key, group) for key, group in mine.items())
            name = f"{regions.title(region)}{' more' * more}"
            yield Part(name, functions, calls, partial(regions.extended, model, region))


def _short(key: str) -> str:
    """A key's function and what it is called with: "llama_2.language_model('7b','fp16')"."""
    return key.partition(" ")[0].removeprefix("workloads.").removeprefix("models.")


def _calls(function: str, key: str, group: Sequence[Sample]) -> int:
    """Operator calls that are captured for a key, about."""
    family = templates.families(function).get(digest(key))
    trace = None if family is None else family.at(group[0].signature.numbers)
    return (PROOFS if family is not None else SEARCH) * (CALLS if trace is None else trace.calls)


def _drawn_of(model: str, keys: Groups) -> bool:
    return any(s.model == model for found in keys.values() for s in found)


def _regenerated(
    function: str, key: str, keys: Groups, far: Sequence[Sample], corners: Sequence[Sample] = (), *, more: bool = False
) -> bool:
    """Prove or find and write the templates of a key of a function; False where there are none that was not known.

    keys: samples of all keys of the function. corners: of the key, at the least sides, frames and batches. more: templates that
    hold and cover little are found anew, and replaced by what covers more.
    """
    path, name, code = file_of(function), digest(key), code_of(function)
    entries: dict[str, Any] = dict(templates.load(path)["families"]) if path.exists() else {}
    held = _held(key, keys[key], entries, corners)
    known = unfound.reason(unfound.name_of(key), code)
    if held is None and name in entries:
        _drop_likes(entries, name)
    entry, well = held, True
    if held is None and known and not more:
        print(f"  {key[:100]}: none, as is known: {known}", flush=True)
    elif held is None or (more and _share(held, keys[key], entries) < MOST):
        try:
            entry = _alias(key, keys[key], entries) or _found(key, keys, far, entries, held, corners)
        except Contradicted as error:
            print(f"{function}: {error}", file=sys.stderr)
            well = held is not None
            if held is None:
                unfound.record(unfound.name_of(key), key, code, str(error))
    if held is not None and entry is not None and _share(entry, keys[key], entries) <= _share(held, keys[key], entries):
        entry = held
    if entry is not None:
        entries[name] = {**entry, "code": code}
        unfound.forget(unfound.name_of(key))
    if entry is not None or entries.pop(name, None) is not None:
        _write(function, entries)
    return well


def _share(entry: Mapping[str, Any], group: Sequence[Sample], entries: Mapping[str, Any]) -> float:
    """Of the drawn sizes of a key, those that an entry has templates for."""
    family = templates.family(entry, entries)
    return sum(family.at(s.signature.numbers) is not None for s in group) / len(group)


def _without_old(function: str) -> None:
    """Take out of a function's file what was made by other code, and nothing has proven since."""
    path, code = file_of(function), code_of(function)
    entries = templates.load(path)["families"] if path.exists() else {}
    kept = {name: e for name, e in entries.items() if e["code"] == code}
    kept = {name: e for name, e in kept.items() if e.get("like", name) in kept}
    if len(kept) < len(entries):
        print(
            f"{path.name}: {len(entries) - len(kept)} of {len(entries)} keys were not proven, and taken out", flush=True
        )
        _write(function, kept)


def _write(function: str, entries: Mapping[str, Any]) -> None:
    """The file of a function; none where it has no templates."""
    if entries:
        templates.write(file_of(function), {"function": function, "families": entries})
    else:
        file_of(function).unlink(missing_ok=True)


def _drop_likes(entries: dict[str, Any], name: str) -> None:
    """Take out the entries that are the like of one which no longer holds."""
    for other in [n for n, e in entries.items() if e.get("like") == name]:
        del entries[other]


def _held(
    key: str, group: Sequence[Sample], entries: Mapping[str, Any], corners: Sequence[Sample] = ()
) -> dict[str, Any] | None:
    """The entry that a key has, if it still gives what captures give."""
    entry: dict[str, Any] | None = entries.get(digest(key))
    if entry is None:
        return None
    family = templates.family(entry, entries)
    covered = [s for s in group if family.at(s.signature.numbers) is not None]
    try:
        every = [s for s in [*covered, *corners] if family.at(s.signature.numbers) is not None]
        thinnest = thin(family, [v for s in every if (v := family.symbols(s.signature.numbers)) is not None])
        proof = [*covered[:PROOFS], *(every[i] for i in thinnest)]
        proven = prove(family, proof) or _proven_elsewhere(family, key, group[0])
    except Contradicted as error:
        print(f"  found anew: {error}", flush=True)
        return None
    if not proven:
        print("  found anew: no capture could be compared", flush=True)
        return None
    print(f"  {key[:100]}: {len(covered)} of {len(group)} drawn sizes, {proven} captures agree", flush=True)
    return entry


def _proven_elsewhere(family: Family, key: str, sample: Sample) -> int:
    """1 where a capture near a sample's request, or of a usual one, is as a family says; 0 where none could be compared.

    Raises Contradicted.
    """
    usual = samples.in_every_dtype(find(sample.model), samples.usual(find(sample.model)))
    found = chain(usual, samples.siblings(sample, random.Random(0)))
    held = (s for s in found if s.signature.key == key and family.at(s.signature.numbers) is not None)
    return next((1 for s in islice(held, TRIED) if prove(family, [s])), 0)


def _alias(key: str, group: Sequence[Sample], entries: Mapping[str, Any]) -> dict[str, Any] | None:
    """An entry that says that bf16 is fp16 by another name, or that two keys differ in a constant, where captures say so."""
    dtype = digest(key.replace("bf16", "fp16"))
    tries = [(dtype, {"fp16": "bf16"}, 0.0)] if dtype != digest(key) and dtype in entries else []
    alike = [n for n, e in entries.items() if "like" not in e and _constants(e["key"]) == _constants(key[:200])]
    tries += [(name, {}, MOST) for name in alike if name != digest(key)]
    found = (_like(key, name, dtypes, group, entries, least) for name, dtypes, least in tries)
    return next((entry for entry in found if entry is not None), None)


def _constants(key: str) -> str:
    """A key with its numbers that are no sizes left out."""
    return re.sub(r"\d+\.\d+", "", key)


def _like(
    key: str, name: str, dtypes: Mapping[str, str], group: Sequence[Sample], entries: Mapping[str, Any], least: float
) -> dict[str, Any] | None:
    """The entry of a key that has the templates of another, dtypes renamed; None where captures say that it has not.

    least: share of the drawn sizes that those templates have to cover.
    """
    own = entries[name].get("like", name)
    entry = {"key": key[:200], "like": own, "dtypes": {**entries[name].get("dtypes", {}), **dtypes}}
    family = templates.family(entry, entries)
    promised = [s for s in group if family.at(s.signature.numbers) is not None]
    try:
        covered = prove(family, promised[:PROOFS])
    except Contradicted:
        return None
    return entry if covered and len(promised) >= least * len(group) else None


def _found(
    key: str,
    keys: Groups,
    far: Sequence[Sample],
    entries: Mapping[str, Any],
    held: Mapping[str, Any] | None,
    corners: Sequence[Sample] = (),
) -> dict[str, Any]:
    """A new entry; what is held stays where nothing new is found. Raises Contradicted."""
    own = templates.family(entries[digest(key)], entries) if digest(key) in entries else None
    search = partial(find_family, keys[key], far, own, replace(BUILT_IN, most=CAPTURES), more=corners)
    found = _by_kin(key, keys, far, entries) or search()
    new = tables.without(found.family, key, dict.fromkeys(s.model for s in keys[key]))
    family = new if held is None else filled(new, templates.family(held, entries))
    count, share = len(family.templates), f"{found.covered} of {found.drawn}"
    print(f"  {key[:100]}: {count} structures, {share} drawn sizes", flush=True)
    return {"key": key[:200], **templates.family_data(family)}


def _by_kin(key: str, keys: Groups, far: Sequence[Sample], entries: Mapping[str, Any]) -> Found | None:
    """Templates by the borders of a key that differs in dtypes alone; None where there is none, or they hold nowhere usual."""
    kin = kin_of(key, list(keys), keys[key], entries)
    try:
        found = None if kin is None else find_kin(keys[key], far, kin)
    except Contradicted as error:
        print(f"  {error}", flush=True)
        return None
    usual = keys[key][0].signature.numbers
    return found if found is not None and found.family.at(usual) is not None else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
