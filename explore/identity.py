"""What a stored study or sweep depends on, and what changed in it since: field by field, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hwspecs import spec
from sim.scenario import Scenario

CHANGED = 6  # fields of a changed scenario that a message names
FOR_PEOPLE = ("title", "sources")  # fields of a device and a software that no result depends on
CONSEQUENCES = re.compile(r"scenario|.* of the baseline")  # of a space: what says less than the scenario's fields do


def fields_of(scenario: Scenario) -> dict[str, str]:
    """Every field of the resolved scenario by path, without the sections and what is only for people."""
    parts = {name: spec.to_data(getattr(scenario, name)) for name in ("request", "device", "software")}
    leaves = {f"{part}.{path}": text for part, data in parts.items() for path, text in _flat(data)}
    return {"model": scenario.model, "level": scenario.level, **leaves}


def changed(
    space: tuple[Mapping[str, str], Mapping[str, str]], scenario: tuple[Mapping[str, str], Mapping[str, str]]
) -> list[str]:
    """'device.name was a, is b' of everything that differs between (was, is) of a space, and of the scenario's fields."""
    inside = _changes(*scenario)
    kept = ({k: v for k, v in side.items() if not (inside and CONSEQUENCES.fullmatch(k))} for side in space)
    more = [f"{len(inside) - CHANGED} more fields"] if len(inside) > CHANGED else []
    return [*_changes(*kept), *inside[:CHANGED], *more]


def way_out(changes: list[str], start: str) -> str:
    """'space changed ...: CHANGES; START or restore the range'."""
    what = "range" if len(changes) == 1 and "–" in changes[0] else "space"
    return f"{', '.join(changes)}; {start} or restore the {what}"


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in data.items():
        if isinstance(value, Mapping) and name not in FOR_PEOPLE:
            yield from _flat(value, f"{prefix}{name}.")
        elif name not in FOR_PEOPLE:
            yield f"{prefix}{name}", str(value)


def _changes(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [
        f"{key} was {was.get(key, 'not there')}, is {now.get(key, 'not there')}"
        for key in dict.fromkeys((*was, *now))
        if was.get(key) != now.get(key)
    ]
