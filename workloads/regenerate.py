"""`python -m workloads.regenerate [MODEL ...]`: find, prove and write the templates of the models (all of them without a name).

For every function that builds modules: stages of drawn requests are captured, sorted by structure, and each structure is fitted
(`workloads.fit`); then it is proven at captures that took no part. Nothing is written that one of those contradicts. Templates
that are there are proven first, and found anew only where they no longer hold or cover little. At the end come the regions of
each model (`workloads.regions`), where captures of other requests would be mixed in.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hwspecs.errors import FramecastError
from workloads import regions, samples, templates
from workloads.digest import code_of
from workloads.model import find, models
from workloads.samples import Sample
from workloads.search import PROOFS, Contradicted, find_family, prove
from workloads.templates import FOLDER, digest, file_of

MOST = 0.9  # of the drawn sizes: a family that covers less is found anew


def main(names: Sequence[str]) -> int:
    """Regenerate the templates of the models named, or of all. Returns the exit code."""
    try:
        wanted = [find(name) for name in names] or list(models().values())
    except FramecastError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    pools = samples.pool(models().values(), random.Random(0), large=False)
    beyond = samples.pool(models().values(), random.Random(1), large=True)
    functions = dict.fromkeys(s.signature.function for m in wanted for s in samples.of_request(m, m.request()))
    functions.update(dict.fromkeys(f for f in pools if any(_drawn_of(m.id, pools[f]) for m in wanted)))
    failed = [f for f in functions if not _regenerated(f, pools[f], beyond.get(f, {}), FOLDER)]
    for function in failed:
        print(f"error: {function}: no templates were written", file=sys.stderr)
    apart = [regions.extended(model, region) for model in wanted for region in regions.regions_of(model)]
    return 1 if failed or not all(apart) else 0


def _drawn_of(model: str, keys: Mapping[str, Sequence[Sample]]) -> bool:
    return any(s.model == model for found in keys.values() for s in found)


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
            entry = _held(key, keys[key], entries)
            if entry is None:
                _drop_likes(entries, digest(key))
            entry = entry or _alias(key, keys[key], entries)
            entry = entry or _found(key, keys[key], beyond.get(key, []), entries)
        except Contradicted as error:
            print(f"{function}: {error}", file=sys.stderr)
            _drop_likes(entries, digest(key))
            entries.pop(digest(key), None)
            contradicted = True
            continue
        entries[digest(key)] = {**entry, "code": code_of(function)}
        templates.write(path, {"function": function, "families": entries})
    if path.exists():
        print(f"{path.name}: {path.stat().st_size / 1e3:.1f} kB, {time.perf_counter() - start:.0f} s", flush=True)
    return not contradicted


def _drop_likes(entries: dict[str, Any], name: str) -> None:
    """Take out the entries that are the like of one which no longer holds."""
    for other in [n for n, e in entries.items() if e.get("like") == name]:
        del entries[other]


def _kept(stored: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """The entries of keys that there still are."""
    wanted = {digest(key) for key in keys}
    return {name: entry for name, entry in stored.items() if name in wanted and entry.get("like", name) in wanted}


def _held(key: str, group: Sequence[Sample], entries: Mapping[str, Any]) -> dict[str, Any] | None:
    """The entry that a key has, if it still gives what captures give and covers most of what is drawn."""
    entry: dict[str, Any] | None = entries.get(digest(key))
    if entry is None:
        return None
    family = templates.family(entry, entries)
    covered = [s for s in group if family.at(s.signature.numbers) is not None]
    if len(covered) < MOST * len(group):
        print(f"  found anew: {len(covered)} of {len(group)} are covered", flush=True)
        return None
    try:
        prove(family, covered[:PROOFS])
    except Contradicted as error:
        print(f"  found anew: {error}", flush=True)
        return None
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
