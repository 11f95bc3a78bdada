"""Sizes that a model's table of positions was made for, where its operators are others than at any other size.

For maintainers. Among draws of all sizes few are there, and share a side with it: a search takes those for a structure of their
own, parted by whatever condition happens to tell so few captures apart. So they are kept out of every search but that of their
own region (`workloads.regions`), and no template that was found elsewhere holds there.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import log
from types import MappingProxyType
from typing import Any

import numpy as np

from workloads import samples
from workloads.model import Model, find
from workloads.samples import Sample
from workloads.templates import NONE, Family
from workloads.within import Region, merged, within

STAGE = "transformer"
DRAWS = 12  # requests at a table that say which numbers it fixes
# Fields at which the stage makes no table (diffusers' models/embeddings.py, PatchEmbed and CogVideoXPatchEmbed, at `sample_size`)
# or takes one in whole rows, so that it makes no copy (cropped_pos_embed: SD3 at `pos_embed_max_size` patches of 16 pixels).
TABLES: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "cogvideox-2b": {"height": 480, "width": 720, "frames": 49},
        "latte": {"height": 512, "width": 512},
        "pixart-alpha": {"height": 1024, "width": 1024},
        "sd3-medium": {"width": 3072},
    }
)


def beside(found: Iterable[Sample], fixed: Mapping[str, Any] = MappingProxyType({})) -> list[Sample]:
    """The samples that are not at the table of their model; all of them where the fixed fields are at it."""
    return [s for s in found if not _is_of(s, _table(s.model, fixed))]


def siblings(sample: Sample, rng: random.Random) -> Iterator[Sample]:
    """As `workloads.samples.siblings`, at the table only those of a sample that is at it itself."""
    table = _table(sample.model, {})
    here = _is_of(sample, table)
    return (s for s in samples.siblings(sample, rng) if _is_of(s, table) == here)


def usual_first(group: Sequence[Sample]) -> list[Sample]:
    """The samples beside tables, first the one nearest in size to the first of all; all as they are where none is left."""
    left = beside(group)
    if not left or left[0] is group[0]:
        return left or list(group)
    own = group[0].signature.numbers
    near = min(
        left, key=lambda s: sum(abs(log((a + 1) / (b + 1))) for a, b in zip(s.signature.numbers, own, strict=True))
    )
    return [near, *(s for s in left if s is not near)]


def at_table(model: Model, whole: Family, key: str, fixed: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    """(symbol, value) of the symbols of a key that its table fixes; none where it has no table, or the fixed fields are at it."""
    table = _table(model.id, fixed)
    if not table:
        return ()
    fields: dict[str, Any] = dict(table)
    drawn = samples.samples(model, DRAWS, random.Random(0), **fields)
    mine = [s.signature.numbers for s in drawn if _is_of(s, table) and s.signature.key == key]
    known = [numbers for numbers in mine if whole.symbols(numbers) is not None]
    return within(whole, np.array(known, dtype=np.int64)).values if known else ()


def without(found: Family, key: str, models: Iterable[str]) -> Family:
    """A family without templates at the tables of the models that have its key."""
    for name in models:
        values = at_table(find(name), found, key, {})
        if values:
            found = merged(found, Region(values, ()), Family(found.places, found.fixed, NONE, ()))
    return found


def _table(model: str, fixed: Mapping[str, Any]) -> Mapping[str, int]:
    """Fields at a model's table, where that is not what is asked for."""
    table = TABLES.get(model, {})
    return {} if all(fixed.get(name) == value for name, value in table.items()) else table


def _is_of(sample: Sample, table: Mapping[str, int]) -> bool:
    at = all(getattr(sample.request, name) == value for name, value in table.items())
    return bool(table) and sample.stage.name == STAGE and at
