"""Samples of a region of a family's numbers, and the templates of it in a file. For maintainers: see `workloads.regions`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from workloads import templates
from workloads.digest import code_of
from workloads.kind import Ints
from workloads.samples import Sample
from workloads.search import Contradicted, prove
from workloads.templates import NONE, Family, file_of
from workloads.within import Region, merged, within


def entries_of(function: str) -> dict[str, Any]:
    """What the file of a function holds; nothing where there is none."""
    path = file_of(function)
    return dict(templates.load(path)["families"]) if path.exists() else {}


def write_entry(function: str, entries: dict[str, Any], name: str) -> None:
    """Write the templates of a function, of which those of one key were found or proven now."""
    entries[name] = {**entries[name], "code": code_of(function)}
    templates.write(file_of(function), {"function": function, "families": entries})


def agreeing(whole: Family, found: Sequence[Sample]) -> int | None:
    """How many captures are as a family says, None where it contradicts one: a region that was found later lies over another."""
    try:
        return prove(whole, found)
    except Contradicted as error:
        print(f"  found anew: {error}", flush=True)
        return None


def without_wrong(whole: Family, region: Region, checks: Sequence[Sample]) -> Family:
    """The family without templates of the region where some number is 1, if that tells what is wrong from what is right.

    Raises Contradicted where something is wrong that no such number tells.
    """
    right, wrong, last = [], [], None
    for sample in checks:
        symbols = whole.symbols(sample.signature.numbers)
        try:
            prove(whole, [sample])
            right.append(symbols)
        except Contradicted as error:
            last = error
            wrong.append(symbols)
    if last is None:
        return whole
    ones = np.all(np.array(wrong) == 1, axis=0) & ~np.any(np.array(right or wrong) == 1, axis=0)
    if not ones.any():
        raise last
    print(f"  none where symbol {int(np.flatnonzero(ones)[0])} is 1: {last}", flush=True)
    none = Family(whole.places, whole.fixed, NONE, ())
    return merged(whole, replace(region, values=(*region.values, (int(np.flatnonzero(ones)[0]), 1))), none)


def mine_of(whole: Family, found: Sequence[Sample], several: bool, least: int) -> list[Sample]:
    """As `of_family`, where no number that varies is less than `least`."""
    mine = of_family(whole, found, several)
    return at_least(whole, mine, shared_by(whole, mine), least) if least and mine else mine


def of_family(whole: Family, found: Sequence[Sample], several: bool) -> list[Sample]:
    """Samples whose numbers the family may have; of several samples at a time, those of more than one."""
    symbols = [(s, whole.symbols(s.signature.numbers)) for s in found]
    return [s for s, values in symbols if values is not None and (not several or values[0] > 1)]


def at_least(whole: Family, found: Sequence[Sample], shared: set[int], least: int) -> list[Sample]:
    """Samples of which no number that varies is less than that; `shared` are the symbols that do not."""
    symbols = [(s, whole.symbols(s.signature.numbers)) for s in found]
    return [s for s, v in symbols if v is not None and all(v[i] >= least for i in range(len(v)) if i not in shared)]


def shared_by(whole: Family, found: Sequence[Sample]) -> set[int]:
    """The symbols that have one value over the samples."""
    return {symbol for symbol, _ in within(whole, numbers_of(found)).values}


def least_of(whole: Family, found: Sequence[Sample]) -> Ints:
    """Of every symbol the least that samples have."""
    symbols = [v for s in found if (v := whole.symbols(s.signature.numbers)) is not None]
    return np.min(symbols, axis=0)  # type: ignore[no-any-return]


def above(region: Region, whole: Family, least: int | Ints) -> Region:
    """The region where every symbol that varies in it is at least that much (one number, or each its own)."""
    shared = {symbol for symbol, _ in region.values}
    count = int(whole.places.max(initial=NONE)) + 1
    bounds = np.broadcast_to(least, count).tolist()
    return replace(region, least=tuple((s, n) for s, n in enumerate(bounds) if n and s not in shared))


def numbers_of(group: Sequence[Sample]) -> Ints:
    """(samples, numbers)."""
    return np.array([s.signature.numbers for s in group], dtype=np.int64)
