"""`python -m workloads.regions MODEL [FIELD=VALUE ...] [--several] [--stage NAME]`: templates where some fields have one value.

`workloads.regenerate` draws requests over all that a model takes. Where structures change at one value (one sample, of which
torch makes no copy; the size that a table of positions was made for), few of its draws are there, and captures of other values
are mixed in. This captures only requests with the fields given, finds and proves the templates of those alone, and puts them
into the stored family under the condition that the stage's numbers have the values that all of them share. Without fields: of one
sample, and where OWN says. `workloads.regenerate` ends with these.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import yaml
from pydantic import ValidationError

from hwspecs.errors import FramecastError
from workloads import samples, templates
from workloads.digest import code_of
from workloads.kind import Ints
from workloads.model import Model, find
from workloads.pool import places_of
from workloads.samples import Sample
from workloads.search import PROOFS, Contradicted, find_family, prove
from workloads.templates import NONE, Family, digest, file_of
from workloads.within import merged, within

DRAWS, LARGE_DRAWS, CHECKED = 60, 20, 6  # requests drawn of the region; far ones; captures that prove it once more
MOST = 0.9  # of the drawn sizes: what fp16 covers, so that it is tried for bf16
# Where a model computes something else than nearby, beside one sample: at the size of its table of positions.
OWN: dict[str, tuple[dict[str, Any], ...]] = {"pixart-alpha": ({"height": 1024, "width": 1024},)}


def main(arguments: Sequence[str]) -> int:
    """Find, prove and write. Returns the exit code: 1 where a key has no templates there, 2 for a wrong argument."""
    parser = argparse.ArgumentParser(prog="python -m workloads.regions", description=__doc__)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("fields", nargs="*", metavar="FIELD=VALUE", help="that all requests share")
    parser.add_argument("--several", action="store_true", help="only stages of more than one sample")
    parser.add_argument("--stage", action="append", help="only stages of this name (may be repeated)")
    parser.add_argument("--dtype", action="append", choices=samples.DTYPES, help="only these (may be repeated)")
    parser.add_argument("--draws", type=int, default=DRAWS, help=f"requests that are drawn (default: {DRAWS})")
    asked = parser.parse_args(arguments)
    try:
        model = find(asked.model)
        fixed = {name: yaml.safe_load(value) for name, _, value in (f.partition("=") for f in asked.fields)}
        wanted = [fixed] if fixed or asked.several else regions_of(model)
        done = [extended(model, fields, asked) for fields in wanted]
    except (FramecastError, ValueError) as error:
        print(f"error: {_line(error)}", file=sys.stderr)
        return 2
    return 0 if all(done) else 1


def regions_of(model: Model) -> list[dict[str, Any]]:
    """Fields of the regions that a model's templates are found in apart: one sample, and OWN."""
    alone = {"batch": 1, "guidance": False} if hasattr(model.request(), "guidance") else {"batch": 1}
    return [alone, *OWN.get(model.id, ())]


def extended(model: Model, fixed: Mapping[str, Any], asked: argparse.Namespace | None = None) -> bool:
    """Find, prove and write the templates of a region. Returns whether every key has some there; ValueError for a wrong field."""
    draws, several = (asked.draws, asked.several) if asked else (DRAWS, False)
    groups = _groups(model, fixed, draws, random.Random(0), large=False)
    beyond = _groups(model, fixed, LARGE_DRAWS, random.Random(1), large=True)
    checks = _groups(model, fixed, draws, random.Random(2), large=False)
    done = True
    for key in sorted(groups, key=lambda k: ("fp16" not in k, k)):
        first = groups[key][0]
        others = asked and (asked.stage and first.stage.name not in asked.stage)
        if others or (asked and asked.dtype and first.request.dtype not in asked.dtype):
            continue
        done &= _extended(model, key, groups[key], beyond.get(key, []), checks[key], several)
    return done


def _line(error: Exception) -> str:
    """What is wrong with a request, in one line: 'height: found 7, ...'."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}"


def _groups(
    model: Model, fixed: Mapping[str, Any], draws: int, rng: random.Random, *, large: bool
) -> dict[str, list[Sample]]:
    """Samples of the region by key, those of the default request first."""
    usual = [] if large else [s for d in samples.DTYPES for s in samples.of_request(model, _usual(model, fixed, d))]
    drawn = samples.samples(model, draws, rng, large=large, **fixed)
    return samples.by_key([*usual, *drawn])


def _usual(model: Model, fixed: Mapping[str, Any], dtype: str) -> Any:
    return model.request(**{**fixed, "dtype": fixed.get("dtype", dtype)})


def _extended(
    model: Model, key: str, group: list[Sample], far: list[Sample], checks: list[Sample], several: bool
) -> bool:
    """Write the templates of a key in the region; whether it has some there now."""
    function, name = group[0].signature.function, digest(key)
    path = file_of(function)
    entries: dict[str, Any] = dict(templates.load(path)["families"]) if path.exists() else {}
    whole = _whole(model, key, group, entries)
    mine, distant, checks = (_of_family(whole, found, several) for found in (group, far, checks))
    if not mine:
        return True
    held = all(whole.at(s.signature.numbers) is not None for s in mine)
    try:
        if not held:
            region = replace(within(whole, _numbers(mine)), several=several)
            whole = merged(whole, region, _part(key, mine, distant, entries))
        unseen = [s for s in checks if whole.at(s.signature.numbers) is not None]
        proven = prove(whole, [mine[0], *unseen[-CHECKED:]])
    except Contradicted as error:
        print(f"  {key[:100]}: {error}", file=sys.stderr)
        return False
    covered = sum(whole.at(s.signature.numbers) is not None for s in mine)
    print(f"  {key[:100]}: {covered} of {len(mine)} sizes, {proven} captures agree", flush=True)
    if not held:
        entries[name] = {"key": key[:200], **templates.family_data(whole), "code": code_of(function)}
        templates.write(path, {"function": function, "families": entries})
    return covered > 0


def _whole(model: Model, key: str, group: Sequence[Sample], entries: Mapping[str, Any]) -> Family:
    """The stored family of a key, or one without templates, whose symbols are those of all that is drawn of the model."""
    if digest(key) in entries:
        return templates.family(entries[digest(key)], entries)
    every = samples.pool([model], random.Random(0), large=False)[group[0].signature.function][key]
    places, fixed = places_of(np.array([s.signature.numbers for s in [*every, *group]], dtype=np.int64))
    return Family(places, fixed, NONE, ())


def _of_family(whole: Family, found: Sequence[Sample], several: bool) -> list[Sample]:
    """Samples whose numbers the family may have; of several samples at a time, those of more than one."""
    symbols = [(s, whole.symbols(s.signature.numbers)) for s in found]
    return [s for s, values in symbols if values is not None and (not several or values[0] > 1)]


def _part(key: str, group: list[Sample], far: list[Sample], entries: Mapping[str, Any]) -> Family:
    """A family for the region: that of fp16 by another name where captures say so, else found. Raises Contradicted."""
    twin = entries.get(digest(key.replace("bf16", "fp16"))) if "bf16" in key else None
    if twin is not None:
        other = _renamed(templates.family(twin, entries))
        promised = [s for s in group if other.at(s.signature.numbers) is not None]
        try:
            if len(promised) >= MOST * len(group) and prove(other, promised[:PROOFS]):
                return other
        except Contradicted as error:
            print(f"  not as fp16: {error}", flush=True)
    cousin = entries.get(digest(key.replace("fp32", "fp16"))) if "fp32" in key else None
    found = find_family(group, far, None if cousin is None else templates.family(cousin, entries))
    print(f"  {len(found.family.templates)} structures, {found.covered} of {found.drawn} drawn sizes", flush=True)
    return found.family


def _numbers(group: Sequence[Sample]) -> Ints:
    return np.array([s.signature.numbers for s in group], dtype=np.int64)


def _renamed(family: Family) -> Family:
    """A family of fp16 as one of bf16."""
    names = {"fp16": "bf16"}
    made = [
        replace(t, trace=replace(t.trace, dtypes=tuple(names.get(d, d) for d in t.trace.dtypes)))
        for t in family.templates
    ]
    return replace(family, templates=tuple(made))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
