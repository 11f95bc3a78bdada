"""Device and software of a scenario: an id, a YAML file, or `base` and the fields that differ -> the complete mapping.

Every field that is laid over a base with another value has the source 'override', where none is given for it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from hwspecs import catalogue, software, spec, units
from hwspecs.catalogue import covers, source_of
from hwspecs.device import Device
from hwspecs.errors import SpecError
from hwspecs.nodes import Node, shown
from hwspecs.software import Software

PARTS: dict[str, type[Device] | type[Software]] = {"device": Device, "software": Software}
FOLDERS = {"device": catalogue.DATA, "software": software.FOLDER}
SOFTWARE = "pytorch-eager"  # where the scenario names none
CHANGED = "override"  # the source of a field that the scenario changed
MADE = "no time depends on it; energy, power, area or price may"
ELSEWHERE = {"silicon": MADE, "power": MADE, "sm": "no run depends on it; `framecast predict` of fp32 products does"}
FORGOTTEN = 4  # missing fields from which on a mapping without `base` is taken for one that forgot it

T = TypeVar("T")
P = ParamSpec("P")


def attempt(problems: list[str], make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """make(...), or None with its problems noted."""
    try:
        return make(*args, **kwargs)
    except SpecError as error:
        problems.extend(error.problems)
        return None


def placed(node: Node, at: str, find: Callable[[], T]) -> T:
    """find(), its problems placed at `node` where they have no place of their own."""
    try:
        return find()
    except SpecError as error:
        raise SpecError([p if re.match(r".+:\d+:\d+: ", p) else node.problem(at, p) for p in error.problems]) from None


def replaced(root: Node, name: str, child: Node | None) -> Node:
    """A mapping with one field replaced, or left out where `child` is None."""
    assert isinstance(root.value, dict)
    fields = {key: node for key, node in root.value.items() if key != name or child is not None}
    return replace(root, value=fields | ({name: child} if child is not None else {}))


def top(part: str) -> list[str]:
    """The names of the fields of a device or software, those below them apart."""
    return [field.name for field in dataclasses.fields(PARTS[part])]


def expanded(root: Node, part: str, problems: list[str]) -> Node | None:
    """The complete mapping of a scenario's device or software; None where there is none, what is wrong noted."""
    node = root.get(part)
    if node is None and part == "device":
        wanted = "an id (`framecast hardware list`), a device file, or fields"
        problems.append(f"{root.source}: device: missing; expected {wanted}")
        return None
    node = node or Node(SOFTWARE, root.source, text=SOFTWARE)
    if not isinstance(node.value, dict):
        return attempt(problems, _named, node, part, part, problems)
    base, forgotten = node.value.get("base"), _forgotten(node, part)
    if base is None and not forgotten:
        return node
    over, named = replaced(node, "base", None), None
    if base is not None:
        named = attempt(problems, _named, base, part, f"{part}.base", problems)
    else:
        problems.append(forgotten)
    if named is None:  # its own fields are still checked, against any other of its sort
        other = catalogue.node(part, FOLDERS[part], catalogue.names(FOLDERS[part])[0])
        attempt(problems, catalogue.build, PARTS[part], spec.merge(other, over), at=part)
        return None
    return laid_over(named, over, PARTS[part])


def laid_over(base: Node, over: Node, cls: type) -> Node:
    """`over` laid on `base`, with a source for every field that it changes: the one that it gives, else 'override'."""
    given = over.get("sources")
    sources = given.plain() if given and isinstance(given.value, dict) else {}
    texts = {
        field.path: source_of(sources, field.path) or CHANGED
        for field in spec.fields(cls)
        if field.path != "sources" and not _same(over.get(field.path), base.get(field.path), field.unit)
    }
    merged = spec.merge(base, over)
    return spec.merge(merged, spec.wrap({"sources": texts}, over.source)) if texts else merged


def changed_fields(made: Device | Software) -> list[str]:
    """Paths of the fields that differ from the device or software of ours of that name; of another, those marked."""
    part = "device" if isinstance(made, Device) else "software"
    if made.name not in catalogue.names(FOLDERS[part]):
        return [field.path for field in spec.fields(type(made)) if made.sources.get(field.path) == CHANGED]
    ours, paths = _ours(part, made.name), (field.path for field in spec.fields(type(made)) if field.path != "sources")
    return [path for path in paths if _value(made, path) != _value(ours, path)]


def without_effect(overrides: Sequence[str]) -> list[str]:
    """One line for each override that touches only descriptive fields of the device or the software."""
    lines = []
    for field in (override.partition("=")[0].strip() for override in overrides):
        part, _, below = field.partition(".")
        leaves = [f for f in spec.fields(PARTS[part]) if covers(below, f.path)] if part in PARTS else []
        if leaves and all(leaf.descriptive for leaf in leaves):
            lines.append(f"--set {field}: {ELSEWHERE.get(below.split('.')[0], 'descriptive; no result depends on it')}")
    return lines


def check_sort(root: Node, known: Sequence[str]) -> None:
    """SpecError where a scenario, with fields `known`, is wanted and the file is a device's or a software's."""
    assert isinstance(root.value, dict)
    for part in PARTS:
        own = (set(root.value) - set(known)) & set(top(part))
        if "model" not in root.value and len(own) >= FORGOTTEN:
            way_out = (
                f"name it in a scenario (`{part}: {root.source}`) or run a scenario with --set {part}={root.source}"
            )
            raise SpecError(f"{root.source}: a {part} file, not a scenario; {way_out}")


def _forgotten(node: Node, part: str) -> str:
    """The problem of a mapping that names no base and is far from complete; '' for any other."""
    assert isinstance(node.value, dict)
    missing = [f.name for f in dataclasses.fields(PARTS[part]) if _required(f) and f.name not in node.value]
    if len(missing) < FORGOTTEN:
        return ""
    example = SOFTWARE if part == "software" else catalogue.names(FOLDERS[part])[0]
    text = f"names no base; add what these fields change, for example `base: {example}` (or every field; missing: "
    return node.problem(part, f"{text}{', '.join(missing)})")


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _named(node: Node, part: str, at: str, problems: list[str]) -> Node:
    """The mapping that an id or the path of a file stands for; a path is relative to the file that names it."""
    if not isinstance(node.value, str):
        raise SpecError(node.problem(at, f"found {shown(node)}, expected an id, a file or fields"))
    name = node.value
    if not node.source.startswith("--set"):
        beside = Path(node.source).parent / name
        if name.endswith((".yaml", ".yml")):
            name = str(beside)
        elif name not in catalogue.names(FOLDERS[part]) and beside.with_name(f"{beside.name}.yaml").is_file():
            raise SpecError(node.problem(at, f"unknown {part} '{name}'; write '{name}.yaml' to read that file"))
    return placed(node, at, lambda: catalogue.node(part, FOLDERS[part], name, problems))


def _same(over: Node | None, base: Node | None, unit: str) -> bool:
    """Whether `over` leaves the value of `base` as it is: it says nothing, or the same, in whatever unit."""
    if over is None or base is None:
        return over is None
    try:
        return units.parse(over.text, unit) == units.parse(base.text, unit) if unit else over.plain() == base.plain()
    except ValueError:
        return False


@cache
def _ours(part: str, name: str) -> Device | Software:
    return catalogue.load(PARTS[part], part, FOLDERS[part], name)


def _value(made: Any, path: str) -> Any:
    """The value at a path; None in a part that the device leaves out."""
    for step in path.split("."):
        made = None if made is None else getattr(made, step)
    return made
