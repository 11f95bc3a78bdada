"""`python -m workloads.regenerate [--more] [MODEL ...]`: find, prove and write the templates of the models (all without a name).

For every function that builds modules: stages of drawn requests are captured, sorted by structure, and each structure is fitted
(`workloads.fit`); then it is proven at captures that took no part. Nothing is written that one of those contradicts. Templates
that are there are proven first, and found anew where they no longer hold; with `--more` also where they cover little of what is
drawn (or not all of a region), and what is found takes their place if it covers more. At the end come the regions of each model
(`workloads.regions`), where captures of other requests would be mixed in. What other code made and none of this proves is taken
out.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hwspecs.errors import FramecastError
from workloads import regions, samples, templates
from workloads.digest import code_of
from workloads.model import find, models
from workloads.samples import Sample
from workloads.search import PROOFS, Contradicted, find_family, prove
from workloads.templates import digest, file_of

MOST = 0.9  # of the drawn sizes: a family that covers less is found anew


def main(arguments: Sequence[str]) -> int:
    """Regenerate the templates of the models named, or of all. Returns the exit code: 1 where some function has none to write."""
    parser = argparse.ArgumentParser(prog="python -m workloads.regenerate", description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--more", action="store_true", help="search again where templates hold and cover little")
    asked = parser.parse_args(arguments)
    try:
        wanted = [find(name) for name in asked.models] or list(models().values())
    except FramecastError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    pools = samples.pool(models().values(), random.Random(0), large=False)
    beyond = samples.pool(models().values(), random.Random(1), large=True)
    functions = dict.fromkeys(s.signature.function for m in wanted for s in samples.of_request(m, m.request()))
    functions.update(dict.fromkeys(f for f in pools if any(_drawn_of(m.id, pools[f]) for m in wanted)))
    failed = [f for f in functions if not _regenerated(f, pools[f], beyond.get(f, {}), more=asked.more)]
    for function in failed:
        print(f"error: {function}: templates of some key contradict captures, and were not written", file=sys.stderr)
    kept = () if asked.more else ("--kept",)
    apart = [regions.extended(model, region) for model in wanted for region in regions.regions_of(model, *kept)]
    for function in functions:
        _without_old(function)
    return 1 if failed or not all(apart) else 0


def _drawn_of(model: str, keys: Mapping[str, Sequence[Sample]]) -> bool:
    return any(s.model == model for found in keys.values() for s in found)


def _regenerated(
    function: str, keys: Mapping[str, list[Sample]], beyond: Mapping[str, list[Sample]], *, more: bool = False
) -> bool:
    """Prove or find and write the templates of a function, key by key; False where some contradict captures.

    more: those that hold and cover little are found anew, and replaced by what covers more.
    """
    start, path = time.perf_counter(), file_of(function)
    entries: dict[str, Any] = dict(templates.load(path)["families"]) if path.exists() else {}
    contradicted = False
    for key in sorted(keys, key=lambda k: ("fp16" not in k, k)):
        held = _held(key, keys[key], entries)
        if held is None and digest(key) in entries:
            _drop_likes(entries, digest(key))
        entry = held
        if held is None or (more and _share(held, keys[key], entries) < MOST):
            try:
                entry = _alias(key, keys[key], entries) or _found(key, keys[key], beyond.get(key, []), entries)
            except Contradicted as error:
                print(f"{function}: {error}", file=sys.stderr)
                contradicted = contradicted or held is None
        if (
            held is not None
            and entry is not None
            and _share(entry, keys[key], entries) <= _share(held, keys[key], entries)
        ):
            entry = held
        if entry is not None:
            entries[digest(key)] = {**entry, "code": code_of(function)}
        elif entries.pop(digest(key), None) is None:
            continue
        _write(function, entries)
    if path.exists():
        print(f"{path.name}: {path.stat().st_size / 1e3:.1f} kB, {time.perf_counter() - start:.0f} s", flush=True)
    return not contradicted


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


def _held(key: str, group: Sequence[Sample], entries: Mapping[str, Any]) -> dict[str, Any] | None:
    """The entry that a key has, if it still gives what captures give."""
    entry: dict[str, Any] | None = entries.get(digest(key))
    if entry is None:
        return None
    family = templates.family(entry, entries)
    covered = [s for s in group if family.at(s.signature.numbers) is not None]
    try:
        proven = prove(family, covered[:PROOFS])
    except Contradicted as error:
        print(f"  found anew: {error}", flush=True)
        return None
    print(f"  {key[:100]}: {len(covered)} of {len(group)} drawn sizes, {proven} captures agree", flush=True)
    return entry


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


def _found(key: str, group: list[Sample], far: list[Sample], entries: Mapping[str, Any]) -> dict[str, Any]:
    """A new entry. Raises Contradicted."""
    like = entries.get(digest(key)) or (entries.get(digest(key.replace("fp32", "fp16"))) if "fp32" in key else None)
    found = find_family(group, far, templates.family(like, entries) if like else None)
    count, share = len(found.family.templates), f"{found.covered} of {found.drawn}"
    print(f"  {key[:100]}: {count} structures, {share} drawn sizes", flush=True)
    return {"key": key[:200], **templates.family_data(found.family)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
