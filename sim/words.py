"""What a scenario is, in words, for the head of a report and the titles of plots: never a changed device under its old name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from hwspecs.software import Software
from sim.scenario import Scenario

NAMED = 6  # changed fields that are listed before the rest is counted


def request_words(request: Any, skip: Collection[str] = ()) -> str:
    """'height 512, width 512, batch 1, steps 50, guidance on, dtype fp16'; fields that were not given, and `skip`, left out."""
    fields = ((name, value) for name, value in vars(request).items() if not name.startswith("_") and name not in skip)
    given = {name: value for name, value in fields if value is not None}
    return ", ".join(f"{name} {_plain(value)}" for name, value in given.items())


def device_words(scenario: Scenario) -> str:
    """'NVIDIA A100 SXM4 80 GB (a100-sxm-80gb, changed: hbm.bandwidth)', and that it is imaginary, if so."""
    device = scenario.device
    once = "" if "not a product" in device.title else "not a product, "
    imaginary = f" - {once}all values are assumptions" if device.imaginary else ""
    return f"{device.title} ({', '.join([device.name, *_changed(scenario, 'device')])}){imaginary}"


def device_title(scenario: Scenario) -> str:
    """'NVIDIA A100 SXM4 80 GB', with ' (changed)' behind it where it is no longer that, for titles."""
    return f"{scenario.device.title}{' (changed)' if _changed(scenario, 'device') else ''}"


def software_words(scenario: Scenario) -> str:
    """'pytorch-eager (changed: cuda_graphs), attention flash-2'."""
    changed = ", ".join(_changed(scenario, "software"))
    return f"{scenario.software.name}{f' ({changed})' if changed else ''}, attention {scenario.software.attention}"


def setting(scenario: Scenario) -> str:
    """One line under a title: '512 x 512, batch 1, 50 steps, fp16, pytorch-eager, attention flash-2'; what of it there is."""
    request = vars(scenario.request)
    sides = [str(request[name]) for name in ("frames", "height", "width") if name in request]
    parts = [" x ".join(sides)] if sides else []
    parts += [f"batch {request['batch']}"] if "batch" in request else []
    parts += [f"{request['steps']} steps"] if "steps" in request else []
    parts += [str(request["dtype"])] if "dtype" in request else []
    return ", ".join([*parts, software_words(scenario)])


def ways_words(ways: dict[str, int], software: Software) -> str:
    """How the calls ran, where that is not what the software names: ' (flash-2 for 1600 calls, unfused for 2 calls)'."""
    if set(ways) <= {software.attention}:
        return ""
    return " (" + ", ".join(f"{way} for {n} call{'s' if n > 1 else ''}" for way, n in ways.items()) + ")"


def _changed(scenario: Scenario, part: str) -> Sequence[str]:
    """['changed: hbm.bandwidth'], or nothing."""
    paths = [path.partition(".")[2] for path in scenario.changed() if path.startswith(f"{part}.")]
    more = [f"{len(paths) - NAMED} more"] if len(paths) > NAMED else []
    return [f"changed: {', '.join([*paths[:NAMED], *more])}"] if paths else []


def _plain(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
