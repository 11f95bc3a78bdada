"""Scenario: everything that decides a run, loaded from one YAML file with overrides, every reference resolved.

Fields: `name`, `model` (an id), `request` (the model's own fields), `device` (an id, a YAML file, or a mapping with
`base` and the fields that differ), `software` (the same) and `level`. All problems of a file are reported together.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from hwspecs import spec
from hwspecs.catalogue import source_of
from hwspecs.device import DTYPES, Device, device_names, device_node
from hwspecs.errors import SpecError, nearest
from hwspecs.nodes import Node, shown
from hwspecs.software import Software, software_names, software_node
from workloads.model import Model, find

LEVELS = ("roofline", "physical")
FIELDS = ("name", "model", "request", "device", "software", "level")
PARTS: dict[str, type[Device] | type[Software]] = {"device": Device, "software": Software}  # named, then changed below
SOFTWARE = "pytorch-eager"  # where the file names none
CHANGED = "override"  # the source of a device or software number that the scenario changed

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True)
class Scenario:
    """A resolved scenario; `path` is the file that it came from and no part of its identity.

    Attributes:
        name: shown in reports; the file's stem where the file gives none.
        model: id of the model. request: an object of the model's own request type.
        device, software: complete, with overrides applied.
        level: cost model, 'roofline' or 'physical'.
    """

    name: str
    model: str
    request: Any
    device: Device
    software: Software
    level: str
    path: str

    @property
    def hash(self) -> str:
        """16 hex digits that are the same for the same resolved scenario."""
        return hashlib.sha256(self.resolved().encode()).hexdigest()[:16]

    def resolved(self) -> str:
        """YAML without references or defaults; loads back to the same scenario and gives the same bytes again."""
        return spec.dump({field: getattr(self, field) for field in FIELDS})

    def changed(self) -> tuple[str, ...]:
        """Paths of the device and software numbers that the scenario changed, in order."""
        sources = {part: getattr(self, part).sources for part in PARTS}
        return tuple(f"{part}.{path}" for part in PARTS for path, text in sources[part].items() if text == CHANGED)


def load(path: Path | str, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario in a file, with overrides 'field.path=value' applied in order.

    Raises SpecError with every problem of the file and of the overrides, one line each.
    """
    root = spec.read(Path(path))
    problems: list[str] = []
    root, late = _apply_names(root, overrides, problems)
    model = _attempt(problems, _model, root)
    for part in PARTS:
        root = _with(root, part, _attempt(problems, _expanded, root, part))
    for field, text in late:
        root = _attempt(problems, _override, root, field, text, model) or root
    return _build(root, model, Path(path), problems)


def _apply_names(root: Node, overrides: Sequence[str], problems: list[str]) -> tuple[Node, list[tuple[str, str]]]:
    """Overrides of what names a thing are applied first, so that the others can change its fields; those are returned."""
    late = []
    for override in overrides:
        field, equals, text = override.partition("=")
        field = field.strip()
        part, _, below = field.partition(".")
        if not equals or not field:
            problems.append(f"--set {override}: expected PATH=VALUE, for example device.hbm.bandwidth='4 TB/s'")
        elif field in FIELDS or (part in PARTS and below == "base"):
            named = root.get(part)
            clash = below and named is not None and not isinstance(named.value, dict)
            root = _attempt(problems, spec.set_path, _with(root, part, None) if clash else root, field, text) or root
        else:
            late.append((field, text))
    return root, late


def _override(root: Node, field: str, text: str, model: Model | None) -> Node:
    """One field set below the request, the device or the software, and noted there as changed."""
    part, _, below = field.partition(".")
    if (part == "request" and model is None) or (part in PARTS and root.get(part) is None):
        return root  # what it belongs to is wrong already
    known = _paths(model)
    if not any(path == field or path.startswith(f"{field}.") or field.startswith(f"{path}.") for path in known):
        raise SpecError(f"--set {field}: unknown field{nearest(field, known)}")
    changed = spec.set_path(root, field, text)
    if part not in PARTS or below.startswith("sources"):
        return changed
    only = spec.set_path(spec.wrap({}, f"--set {field}"), below, text)
    return _with(changed, part, _marked(_some(changed.get(part)), only, PARTS[part]))


def _paths(model: Model | None) -> list[str]:
    """Every field path that --set may name."""
    types = {**PARTS, **({"request": model.request} if model else {})}
    below = [f"{part}.{field.path}" for part, cls in types.items() for field in spec.fields(cls)]
    return ["name", "model", "level", *(f"{part}.base" for part in PARTS), *below]


def _model(root: Node) -> Model:
    node = root.get("model")
    if node is None:
        raise SpecError(f"{root.source}: model: missing; expected a model's id (`framecast models` lists them)")
    if not isinstance(node.value, str):
        raise SpecError(node.problem("model", f"found {shown(node)}, expected a model's id"))
    return _placed(node, "model", find, node.value)


def _expanded(root: Node, part: str) -> Node:
    """The complete mapping of a device or software: its name looked up, its own fields laid over that."""
    node = root.get(part)
    if node is None and part == "device":
        wanted = "an id (`framecast hardware list`), a device file, or fields"
        raise SpecError(f"{root.source}: device: missing; expected {wanted}")
    node = node or Node(SOFTWARE, root.source, text=SOFTWARE)
    if not isinstance(node.value, dict):
        return _named(node, part, part)
    base = node.value.get("base")
    if base is None:
        return node
    over = _with(node, "base", None)
    problems: list[str] = []
    named = _attempt(problems, _named, base, part, f"{part}.base")
    if named is None:  # its own fields are still checked, against any other of its sort
        names, library = _library(part)
        _attempt(problems, spec.build, PARTS[part], spec.merge(library(names[0]), over), at=part)
        raise SpecError(problems)
    return _marked(spec.merge(named, over), over, PARTS[part])


def _named(node: Node, part: str, at: str) -> Node:
    """The mapping that an id or the path of a file stands for; a path is relative to the file that names it."""
    if not isinstance(node.value, str):
        raise SpecError(node.problem(at, f"found {shown(node)}, expected an id, a file or fields"))
    name = node.value
    if name.endswith((".yaml", ".yml")) and not node.source.startswith("--set"):
        name = str(Path(node.source).parent / name)
    return _placed(node, at, _library(part)[1], name)


def _library(part: str) -> tuple[list[str], Callable[[str], Node]]:
    """The names that are known for a device or software, and how to look one up."""
    return (device_names(), device_node) if part == "device" else (software_names(), software_node)


def _marked(merged: Node, over: Node, cls: type) -> Node:
    """`merged` with a source for every number that `over` sets: the one that `over` gives, else 'override'."""
    given = over.get("sources")
    sources = given.plain() if given and isinstance(given.value, dict) else {}
    texts = {
        field.path: source_of(sources, field.path) or CHANGED
        for field in spec.fields(cls)
        if field.numeric and over.get(field.path) is not None
    }
    return spec.merge(merged, spec.wrap({"sources": texts}, over.source)) if texts else merged


def _build(root: Node, model: Model | None, path: Path, problems: list[str]) -> Scenario:
    assert isinstance(root.value, dict)
    for name, node in root.value.items():
        if name not in FIELDS:
            text = f"unknown field{nearest(name, FIELDS)} (allowed: {', '.join(FIELDS)})"
            problems.append(node.at_key().problem(name, text))
    request = _attempt(problems, _request, root, model) if model else None
    device = _attempt(problems, _part, root, "device", Device) if root.get("device") else None
    software = _attempt(problems, _part, root, "software", Software) if root.get("software") else None
    title = _attempt(problems, _text, root, "name", path.stem)
    level = _attempt(problems, _level, root)
    if device and request:
        _attempt(problems, _check_dtype, root, device, request)
    if problems:
        raise SpecError(sorted((re.sub(r"^--set (\S+): \1: ", r"--set \1: ", p) for p in problems), key=_position))
    return Scenario(_some(title), _some(model).id, request, _some(device), _some(software), _some(level), str(path))


def _request(root: Node, model: Model) -> Any:
    """The request; where it is wrong, each of its fields is also tried alone, so that no rule hides behind another problem."""
    node = root.get("request") or Node({}, root.source)
    problems: list[str] = []
    request = _attempt(problems, spec.build, model.request, node, at="request")
    if problems and isinstance(node.value, dict):
        alone: list[str] = []
        for name, child in node.value.items():
            _attempt(alone, spec.build, model.request, replace(node, value={name: child}), at="request")
        problems += [p for p in alone if ": missing; " not in p]
    if problems:
        raise SpecError(dict.fromkeys(problems))
    return request


def _part(root: Node, part: str, cls: type[T]) -> T:
    return spec.build(cls, _some(root.get(part)), at=part)


def _text(root: Node, field: str, default: str) -> str:
    node = root.get(field)
    if node is not None and not isinstance(node.value, str):
        raise SpecError(node.problem(field, f"found {shown(node)}, expected text, in quotes"))
    return str(node.value) if node else default


def _level(root: Node) -> str:
    level = _text(root, "level", "physical")
    if level not in LEVELS:
        text = f"found '{level}', expected one of {', '.join(LEVELS)}{nearest(level, LEVELS)}"
        raise SpecError(_some(root.get("level")).problem("level", text))
    return level


def _check_dtype(root: Node, device: Device, request: Any) -> None:
    """A device must have arithmetic for the request's dtype; nothing is priced as another one."""
    dtype = getattr(request, "dtype", "fp32")
    packed = {t: getattr(device.vector, t) > device.vector.fp32 for t in DTYPES}
    has = [t for t in DTYPES if t == "fp32" or packed[t] or getattr(device.tensor, t) > 0]
    if dtype not in has:
        node = root.get("request.dtype") or root
        raise SpecError(
            node.problem("request.dtype", f"{device.name} has no {dtype} arithmetic; it has {', '.join(has)}")
        )


def _attempt(problems: list[str], make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """make(...), or None with its problems noted."""
    try:
        return make(*args, **kwargs)
    except SpecError as error:
        problems.extend(error.problems)
        return None


def _placed(node: Node, at: str, find: Callable[[str], T], name: str) -> T:
    """find(name), its problems placed at `node` where they have no place of their own."""
    try:
        return find(name)
    except SpecError as error:
        raise SpecError([p if re.match(r".+:\d+:\d+: ", p) else node.problem(at, p) for p in error.problems]) from None


def _position(problem: str) -> tuple[str, int, int]:
    """File, line and column of a problem, for sorting."""
    match = re.match(r"(.*?):(\d+):(\d+): ", problem)
    return (match[1], int(match[2]), int(match[3])) if match else (problem, 0, 0)


def _with(root: Node, name: str, child: Node | None) -> Node:
    """A mapping with one field replaced, or left out where `child` is None."""
    assert isinstance(root.value, dict)
    fields = {key: node for key, node in root.value.items() if key != name or child is not None}
    return replace(root, value=fields | ({name: child} if child is not None else {}))


def _some(value: T | None) -> T:
    assert value is not None
    return value
