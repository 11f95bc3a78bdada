"""Scenario: everything that decides a run, loaded from one YAML file with overrides, every reference resolved.

Fields: `name`, `model` (an id), `request` (the model's own fields), `device` (an id, a YAML file, or a mapping with
`base` and the fields that differ), `software` (the same) and `level`. All problems of a file are reported together.
Sections of commands that explore (`sweep`, `search`, `project`, `pods`, `serve`) are kept as nodes; `section` builds one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hwspecs import catalogue, spec
from hwspecs.catalogue import in_order
from hwspecs.device import DTYPES, Device
from hwspecs.errors import SpecError, closest, nearest
from hwspecs.nodes import Node, shown
from hwspecs.software import Software
from sim.parts import PARTS, attempt, changed_fields, check_sort, expanded, laid_over, placed, replaced
from sim.sections import set_below
from workloads.capture_model import is_file
from workloads.model import Model, find, models

if TYPE_CHECKING:
    from workloads.trace import Trace

LEVELS = ("roofline", "physical", "calibrated")
FIELDS = ("name", "model", "request", "device", "software", "level")
SECTIONS = ("sweep", "search", "project", "pods", "serve")  # of commands that explore, which know what is in them
TOP = (*FIELDS, *SECTIONS)

T = TypeVar("T")


@dataclass(frozen=True)
class Scenario:
    """A resolved scenario; `path` is the file that it came from and no part of its identity.

    Attributes:
        name: shown in reports; the file's stem where the file gives none.
        model: id of the model, or the path of a capture file or stored trace. request: an object of the model's own request type.
        device, software: complete, with overrides applied.
        level: cost model, one of LEVELS; 'calibrated' is the physical one on a device that was never fitted.
        sections: nodes of the sections that the file has, by name.
    """

    name: str
    model: str
    request: Any
    device: Device
    software: Software
    level: str
    path: str
    sections: Mapping[str, Node] = dataclasses.field(default_factory=dict)

    @property
    def hash(self) -> str:
        """16 hex digits that are the same for the same resolved scenario."""
        return hashlib.sha256((self.resolved() + find(self.model).fingerprint()).encode()).hexdigest()[:16]

    def resolved(self) -> str:
        """YAML without references or defaults; loads back to the same scenario and gives the same bytes again."""
        sections = {name: node.plain() for name, node in self.sections.items()}
        return spec.dump({name: getattr(self, name) for name in FIELDS} | sections)

    def changed(self) -> tuple[str, ...]:
        """Paths of the device and software fields that differ from what they are based on, in the order of the specs."""
        return tuple(f"{part}.{path}" for part in PARTS for path in changed_fields(getattr(self, part)))


def load(path: Path | str, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario in a file, with overrides 'field.path=value' applied in order.

    Raises SpecError with every problem of the file and of the overrides, one line each.
    """
    if not str(path):
        raise SpecError("SCENARIO: empty; expected the path of a scenario's YAML file")
    unread: list[str] = []
    root = spec.read(Path(path), unread)
    check_sort(root, TOP)
    problems: list[str] = []
    root, late = _apply_names(_meant(root, problems), overrides, problems)
    model = attempt(problems, _model, root)
    for part in PARTS:
        root = replaced(root, part, expanded(root, part, problems))
    for field, text in late:
        root = attempt(problems, _override, root, field, text, model) or root
    made = attempt(problems, _build, root, model, Path(path))
    if unread or problems:
        places = tuple(problem.split(": ")[0] + ": " for problem in unread)
        raise SpecError(_tidied([*unread, *(p for p in problems if not p.startswith(places))]))
    return _some(made)


def uncorrected(scenario: Scenario) -> Scenario:
    """The scenario without a learned correction: to compare designs, since it is of one and would favour or burden that alone."""
    return replace(scenario, level="physical") if scenario.level == "calibrated" else scenario


def section(scenario: Scenario, name: str, cls: type[T]) -> T:
    """A section of a scenario as its type; one that the file lacks is built of no fields. SpecError as in `load`."""
    try:
        return spec.build(cls, scenario.sections.get(name) or Node({}, scenario.path), at=name)
    except SpecError as error:
        raise SpecError(_tidied(error.problems)) from None


def _meant(root: Node, problems: list[str]) -> Node:
    """Unknown fields are noted, and read as the field that they likely mean, so that they hide nothing below them."""
    assert isinstance(root.value, dict)
    fields: dict[str, Node] = {}
    for name, node in root.value.items():
        if name not in TOP:
            problems.append(
                node.at_key().problem(name, f"unknown field{nearest(name, TOP)} (allowed: {', '.join(TOP)})")
            )
        close = closest(name, TOP)
        fields.setdefault(name if name in TOP or len(close) != 1 or close[0] in root.value else close[0], node)
    return replace(root, value=fields)


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
            root = attempt(problems, spec.set_path, replaced(root, part, None) if clash else root, field, text) or root
        else:
            late.append((field, text))
    return root, late


def _override(root: Node, field: str, text: str, model: Model | None) -> Node:
    """One field set below the request, the device or the software, and noted there as changed."""
    part, _, below = field.partition(".")
    if part in SECTIONS:
        return set_below(root, field, text)
    if part in PARTS and root.get(part) is None:
        return root  # what it belongs to is wrong already
    if part == "request" and model is None:
        return spec.set_path(root, field, text)
    known = _paths(model)
    if not any(path == field or path.startswith(f"{field}.") or field.startswith(f"{path}.") for path in known):
        raise SpecError(f"--set {field}: unknown field{nearest(field, known)}")
    changed = spec.set_path(root, field, text)
    if part not in PARTS or below.startswith("sources"):
        return changed
    only = spec.set_path(spec.wrap({}, f"--set {field}"), field, text).get(part)
    return replaced(changed, part, laid_over(_some(root.get(part)), _some(only), PARTS[part]))


def _paths(model: Model | None) -> list[str]:
    """Every field path that --set may name."""
    types = {**PARTS, **({"request": model.request} if model else {})}
    below = [f"{part}.{field.path}" for part, cls in types.items() for field in spec.fields(cls)]
    return ["name", "model", "level", *(f"{part}.base" for part in PARTS), *below]


def _model(root: Node) -> Model:
    node = root.get("model")
    if node is None:
        raise SpecError(
            f"{root.source}: model: missing; expected a model's id (`framecast models` lists them) or a capture file"
        )
    if not isinstance(node.value, str):
        raise SpecError(node.problem("model", f"found {shown(node)}, expected a model's id or a capture file"))
    name = _beside(node, node.value)
    return placed(node, "model", lambda: find(name))


def _beside(node: Node, name: str) -> str:
    """A model's name; the path of a file is relative to the file that names it, or else to the current folder."""
    if not is_file(name) or node.source.startswith("--set"):
        return name
    beside = Path(node.source).parent / name
    return name if not beside.exists() and Path(name).exists() else str(beside)


def _build(root: Node, model: Model | None, path: Path) -> Scenario:
    assert isinstance(root.value, dict)
    problems: list[str] = []
    request = attempt(problems, _request, root, model) if model else None
    if model is None:
        problems += _common_problems(root)
    device = attempt(problems, _part, root, "device", Device) if root.get("device") else None
    software = attempt(problems, _part, root, "software", Software) if root.get("software") else None
    title = attempt(problems, _text, root, "name", path.stem)
    level = attempt(problems, _level, root)
    if device and request:
        attempt(problems, _check_dtype, root, device, request)
    if problems or not (model and device and software):
        raise SpecError(problems)
    sections = {name: node for name, node in root.value.items() if name in SECTIONS}
    return Scenario(_some(title), model.id, request, device, software, _some(level), str(path), sections)


def _common_problems(root: Node) -> list[str]:
    """What every model that may be meant would say of the request: those that the unknown name is near to, else all."""
    node, known = root.get("model"), models()
    near = closest(node.text, known) if node else []
    found: list[list[str]] = [[] for _ in near or known]
    for problems, name in zip(found, near or known, strict=True):
        attempt(problems, _request, root, known[name])
    return [problem for problem in found[0] if all(problem in others for others in found)]


def _request(root: Node, model: Model) -> Any:
    """The request; where it is wrong, each of its fields is also tried alone, so that no rule hides behind another problem."""
    node = root.get("request") or Node({}, root.source)
    problems: list[str] = []
    request = attempt(problems, spec.build, model.request, node, at="request")
    if problems and isinstance(node.value, dict):
        alone: list[str] = []
        for name, child in node.value.items():
            attempt(alone, spec.build, model.request, replace(node, value={name: child}), at="request")
        problems += [p for p in alone if ": missing; " not in p]
    if problems:
        raise SpecError(dict.fromkeys(problems))
    return request


def _part(root: Node, part: str, cls: type[T]) -> T:
    return catalogue.build(cls, _some(root.get(part)), at=part)


def _text(root: Node, field: str, default: str) -> str:
    node = root.get(field)
    if node is not None and not isinstance(node.value, str):
        raise SpecError(node.problem(field, f"found {shown(node)}, expected text, in quotes"))
    if node is not None and not (node.text.strip() and node.text.isprintable()):
        raise SpecError(node.problem(field, f"found {shown(node)}, expected one line of text"))
    return str(node.value) if node else default


def _level(root: Node) -> str:
    level = _text(root, "level", "calibrated")
    if level not in LEVELS:
        text = f"found '{level}', expected one of {', '.join(LEVELS)}{nearest(level, LEVELS)}"
        raise SpecError(_some(root.get("level")).problem("level", text))
    return level


def arithmetic(device: Device) -> list[str]:
    """The dtypes that a device has arithmetic for."""
    packed = {t: getattr(device.vector, t) > device.vector.fp32 for t in DTYPES}
    return [t for t in DTYPES if t == "fp32" or packed[t] or getattr(device.tensor, t) > 0]


def check_trace(scenario: Scenario, trace: Trace) -> None:
    """SpecError where a user's own model multiplies in a dtype that the device has no arithmetic for."""
    if find(scenario.model).trace is None:  # a built-in one: its request says the dtype
        return
    has = arithmetic(scenario.device)
    used = {trace.dtypes[trace.op_dtype[op]] for op in (trace.op_flops() > 0).nonzero()[0]}
    lacking = sorted(used & {*DTYPES, "fp64"} - set(has))
    if lacking:
        text = f"{scenario.device.name} has no {lacking[0]} arithmetic, in which {scenario.model} multiplies"
        raise SpecError(f"{scenario.path}: device: {text}; it has {', '.join(has)}")


def _check_dtype(root: Node, device: Device, request: Any) -> None:
    """A device must have arithmetic for the request's dtype; nothing is priced as another one."""
    dtype, has = getattr(request, "dtype", "fp32"), arithmetic(device)
    if dtype not in has:
        node = root.get("request.dtype") or root
        raise SpecError(
            node.problem("request.dtype", f"{device.name} has no {dtype} arithmetic; it has {', '.join(has)}")
        )


def _tidied(problems: Iterable[str]) -> list[str]:
    """In the order of the file; a field that --set names already is not named twice."""
    return in_order(re.sub(r"^--set (\S+): \1: ", r"--set \1: ", p) for p in problems)


def _some(value: T | None) -> T:
    assert value is not None
    return value
