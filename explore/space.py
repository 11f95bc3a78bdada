"""Which fields vary and over what: lists and ranges of scenario fields, as `sweep:` and `search:` write them.

    request.height: [512, 768, 1024]
    device.l2.capacity: [40, 64, 96] MiB
    device.sm_count: 64..256 step 4
    device.hbm.bandwidth: 1..8 TB/s log, 8 points     # `log` and `N points` as wanted

Every value is read by `sim.scenario.load`, as if it had been given to `--set`; what is wrong with it is placed where the
section wrote it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TypeAlias

import numpy as np

from hwspecs import spec, units
from hwspecs.device import Device
from hwspecs.errors import SpecError, nearest
from hwspecs.nodes import Node, shown
from hwspecs.software import Software
from sim.scenario import Scenario, load, uncorrected

Value: TypeAlias = float | str | bool
MOST = 1_000_000  # points of one range
SILICON = "device.silicon."  # what a device is made of; what is stated of it, area and power at load, does not vary
STATED = (f"{SILICON}area", f"{SILICON}load_power")
INSIDE = ("objectives", "resources")  # options of a section that hold fields of their own
NAMES = (
    "model",
    "device",
    "software",
    "level",
)  # fields that name a thing, beside the leaves of request, device, software


@dataclass(frozen=True)
class Origin:
    """A scenario file with its overrides, so that a variation of it is loaded as `run --set` would load it."""

    path: str
    overrides: tuple[str, ...]
    scenario: Scenario

    def varied(self, settings: Sequence[str]) -> Scenario:
        """With further settings 'field.path=value'. SpecError as in `load`."""
        return uncorrected(load(self.path, (*self.overrides, *settings)))


@dataclass(frozen=True)
class Range:
    """low..high in the field's SI unit. A sweep has a step or a number of points; a search may have a step."""

    low: float
    high: float
    step: float | None = None
    points: int | None = None
    log: bool = False


@dataclass(frozen=True)
class Axis:
    """One field and its values; `range` where it was written as one.

    Attributes:
        values: of a list, or of the points of a sweep's range; the two ends of a search's range.
        settings: the values as `--set` takes them.
    """

    field: spec.Field
    values: tuple[Value, ...]
    settings: tuple[str, ...]
    node: Node
    range: Range | None = None

    @property
    def path(self) -> str:
        """The field's path, for example 'device.hbm.bandwidth'."""
        return self.field.path

    @property
    def stacked(self) -> bool:
        """A number of the device: many values are priced as one stack of designs. One that may be 0 (the device lacks
        something) or is of its silicon is loaded with the others, since that may rule a combination out."""
        number = self.field.numeric and self.path.startswith("device.") and not self.path.startswith(SILICON)
        return number and 0 not in self.values

    @property
    def heading(self) -> str:
        """The column in tables: the path, and the unit where there is one."""
        return f"{self.path} ({self.field.unit})" if self.field.unit else self.path

    def text(self) -> str:
        """The range or list for people, '1–8 TB/s log'; equal for equal spaces."""
        if self.range is None:
            return ", ".join(show(v, self.field.unit) for v in self.values)
        low, high = show(self.range.low, self.field.unit), show(self.range.high, self.field.unit)
        same = low.rpartition(" ")[2] == high.rpartition(" ")[2] and " " in low
        parts = [f"{low.rpartition(' ')[0] if same else low}–{high}"]
        parts += [f"step {show(self.range.step, self.field.unit)}"] if self.range.step else []
        return " ".join([*parts, *(["log"] if self.range.log else [])])


def origin(path: str, overrides: Sequence[str] = ()) -> Origin:
    """Load a scenario to vary. SpecError as in `sim.scenario.load`."""
    return Origin(path, tuple(overrides), uncorrected(load(path, overrides)))


def section(at: Origin, name: str, example: str) -> Node:
    """The section `name`, a mapping. SpecError where the file has none, or something else there."""
    node = at.scenario.sections.get(name)
    if node is None:
        raise SpecError(f"{at.path}: {name}: missing; expected fields that vary, for example `{name}: {{{example}}}`")
    if not isinstance(node.value, dict) or not node.value:
        wanted = f"fields that vary, for example `{example}`"
        found = "no fields" if node.value == {} else shown(node)
        raise SpecError(node.problem(name, f"found {found}, expected {wanted}"))
    return node


def settled(node: Node, name: str, options: Sequence[str]) -> tuple[Node, list[str]]:
    """The section `name` with every field once, under its dotted path, and its problems: fields that the file gives twice.

    What `--set` says counts; its `null` takes a field out. `options`: names of the section that are no fields.
    """
    problems: list[str] = []
    once = _once(node, name, options, problems)
    for part in (p for p in INSIDE if p in once and isinstance(once[p].value, dict)):
        once[part] = replace(once[part], value=_once(once[part], f"{name}.{part}", (), problems))
    return replace(node, value=once), problems


def with_section(at: Origin, name: str, node: Node) -> Origin:
    """The origin with one section as it was settled, so that the resolved scenario has each of its fields once."""
    return replace(at, scenario=replace(at.scenario, sections={**at.scenario.sections, name: node}))


def axes(
    at: Origin, node: Node, name: str, *, searched: bool, drawn: bool = False, options: Sequence[str] = ()
) -> list[Axis]:
    """The axes in section `name`; `searched`: numbers of the device only, ranges without points. `drawn`: ranges without points,
    of numbers of the device, beside lists of anything. `options` are names that the section has beside its fields, to suggest.

    SpecError lists every problem: unknown fields, values that the field cannot take, empty or reversed ranges.
    """
    known = fields(at.scenario)
    problems: list[str] = []
    found = []
    assert isinstance(node.value, dict)
    for path, child in node.value.items():
        try:
            if path in STATED:
                raise ValueError("is stated of a device, and does not vary; vary what it is made of")
            outer, _, inner = path.partition(".")
            if path not in known and inner in known:
                raise ValueError(f"unknown field; put {inner} directly under {name}, not under '{outer}'")
            if path not in known:
                likely = [*options, *(k for k in known if not searched or k.startswith("device."))]
                raise ValueError(f"unknown field{nearest(path, likely)}")
            found.append(_axis(at, known[path], child, searched, drawn))
        except ValueError as error:
            texts = error.problems if isinstance(error, SpecError) else [str(error)]
            place = child.at_key() if path not in known else child
            problems.extend(_placed(place, f"{name}.{path}", path, text) for text in texts)
    if problems:
        raise SpecError(problems)
    return found


def tidied(problems: Sequence[str]) -> list[str]:
    """In the order of the file; a field that --set names already is not named twice."""

    def position(problem: str) -> tuple[int, int]:
        match = re.match(r".+?:(\d+):(\d+): ", problem)
        return (int(match[1]), int(match[2])) if match else (0, 0)

    return sorted((re.sub(r"^--set (\S+): \1: ", r"--set \1: ", p) for p in dict.fromkeys(problems)), key=position)


def fields(scenario: Scenario) -> dict[str, spec.Field]:
    """Every field that may vary, by path: what no result depends on is left out, and what is stated of a device's silicon."""
    parts: dict[str, type] = {"request": type(scenario.request), "device": Device, "software": Software}
    leaves = [replace(f, path=f"{part}.{f.path}") for part, cls in parts.items() for f in spec.fields(cls)]
    named = [spec.Field(name, "", "", False, str) for name in NAMES]
    return {f.path: f for f in (*named, *leaves) if not f.descriptive or varies(f.path)}


def varies(path: str) -> bool:
    """Whether a descriptive field may vary all the same: area, power and price depend on it, though no time does."""
    return path.startswith(SILICON) and path not in STATED


def show(value: Value, unit: str) -> str:
    """A value with a readable prefix; at most four digits where the exact text is long."""
    if isinstance(value, bool | str):
        return str(value).lower() if isinstance(value, bool) else value
    text = units.format(value, unit)
    return text if len(text) <= len("1234.5 GB/s") else units.format(float(f"{value:.4g}"), unit)


def setting(path: str, value: Value, unit: str) -> str:
    """'field.path=value' as `--set` takes it, exact."""
    return f"{path}={show(value, '') if isinstance(value, bool | str) else units.format(value, unit)}"


def _once(node: Node, at: str, options: Sequence[str], problems: list[str]) -> dict[str, Node]:
    """Values by dotted path; a path that the file gives twice is noted."""
    found: dict[str, Node] = {}
    for path, leaf in _leaves(node, options):
        before = found.get(path)
        if before is not None and before.line and leaf.line:
            lines = " and ".join(str((n.key or (n.line, 0))[0]) for n in (before, leaf))
            problems.append(
                leaf.at_key().problem(f"{at}.{path}", f"given twice, in lines {lines}; leave one of them out")
            )
        elif before is None or not leaf.line:
            found[path] = leaf
    return {path: leaf for path, leaf in found.items() if leaf.line or leaf.value is not None}


def _leaves(node: Node, options: Sequence[str] = (), prefix: str = "") -> Iterator[tuple[str, Node]]:
    """Dotted paths, also where they were written as fields below fields; an option is not looked into."""
    assert isinstance(node.value, dict)
    for name, child in node.value.items():
        if isinstance(child.value, dict) and child.value and name not in options:
            yield from _leaves(child, (), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _axis(at: Origin, field: spec.Field, node: Node, searched: bool, drawn: bool) -> Axis:
    """ValueError (SpecError is one) with what is wrong."""
    if searched and not (field.numeric and field.path.startswith("device.")):
        raise ValueError("a search varies numbers of the device; change it in the scenario, or use `sweep`")
    node = _of_one_unit(node)
    if isinstance(node.value, list):
        return _listed(at, field, node)
    if not field.numeric:
        raise ValueError(f"found {shown(node)}, expected a list of values")
    parsed = parse(node.text, field.unit, field.type is int)
    if (searched or drawn) and parsed.points:
        who = "search" if searched else "sample"
        raise ValueError(
            f"found '{node.text}': a {who} draws from the whole range; leave out the points, or give a list"
        )
    if drawn and not (field.path.startswith("device.") and not field.path.startswith(SILICON) and parsed.low > 0):
        raise ValueError(f"found '{node.text}': a sample draws rates and sizes of the device above 0; give a list")
    values = (parsed.low, parsed.high) if searched or drawn else _points(parsed, node.text, field.type is int)
    settings = tuple(setting(field.path, v, field.unit) for v in values)
    for tried in _tried(parsed, field):
        at.varied([tried])
    return Axis(field, values, settings, node, parsed)


def _tried(r: Range, field: spec.Field) -> list[str]:
    """Settings that tell whether the field takes a range: its ends, and two whole numbers more (for powers of two)."""
    step = r.step or 1
    more = [v for v in (r.low + step, r.low + 2 * step) if v < r.high] if field.type is int else []
    return [setting(field.path, v, field.unit) for v in (r.low, r.high, *more)]


def _of_one_unit(node: Node) -> Node:
    """'[40, 64] MiB' as a list of values with that unit; any other node as it is."""
    match = re.fullmatch(r"\[(.*)\]\s*([A-Za-z][\w/]*)", node.text.strip())
    if match is None or not isinstance(node.value, str):
        return node
    texts = [item.strip() for item in match[1].split(",")]
    texts = [f"{item} {match[2]}" if re.fullmatch(units.NUMBER, item) else item for item in texts]
    return replace(node, value=[replace(node, value=text, text=text) for text in texts])


def _listed(at: Origin, field: spec.Field, node: Node) -> Axis:
    assert isinstance(node.value, list)
    if not node.value:
        raise ValueError("the list is empty; expected at least one value")
    problems: list[str] = []
    values: list[Value] = []
    for item in node.value:
        try:
            values.append(_read(at, field, item))
        except SpecError as error:
            problems.extend(error.problems)
    twice = [show(v, field.unit) for v in dict.fromkeys(values) if values.count(v) > 1]
    if twice and not problems:
        problems.append(f"{', '.join(twice)} stands in the list more than once")
    if problems:
        raise SpecError(problems)
    settings = tuple(setting(field.path, v, field.unit) for v in values)
    return Axis(field, tuple(values), settings, node)


def _read(at: Origin, field: spec.Field, item: Node) -> Value:
    """One value of a list, as the field itself would read it."""
    if isinstance(item.value, list | dict) or item.value is None:
        raise SpecError(item.problem(field.path, f"found {shown(item)}, expected one value"))
    try:
        varied = at.varied([f"{field.path}={item.text}"])
    except SpecError as error:
        raise SpecError([_placed(item, field.path, field.path, p) for p in error.problems]) from None
    if field.path in NAMES:
        return item.text
    value: Value = reduce(getattr, field.path.split("."), varied)  # type: ignore[assignment]
    return value


def _placed(node: Node, at: str, path: str, problem: str) -> str:
    """A problem of a value, at the place in the section; one that has a place keeps it."""
    names = f"(?:{re.escape(at)}|{re.escape(path)})"
    text = re.sub(rf"^--set {names}: (?:{names}: )*", "", problem)
    if re.match(r".+:\d+:\d+: ", text):
        return re.sub(rf"^(.+?:\d+:\d+: ){re.escape(path)}: ", rf"\g<1>{at}: ", text)
    return node.problem(at, text.removeprefix("--set "))


def parse(text: str, unit: str, whole: bool) -> Range:
    """'1..8 TB/s log', '64..256 step 4', '1..8 TB/s, 8 points'. ValueError says what is wrong."""
    example = "64..256 step 8" if whole else f"{_half(unit)}, 8 points"
    if ".." not in text:
        raise ValueError(f"found '{text}', expected a list, or a range, for example '{example}'")
    first, _, rest = text.partition("..")
    last, *words = re.split(r"\s*,\s*|\s+(?=log\b|step\b|\d+\s+points?\b)", rest.strip())
    suffix = re.sub(rf"^\s*{units.NUMBER}\s*", "", last)
    low, high = _number(first, suffix, unit, whole), _number(last, suffix, unit, whole)
    found = Range(low, high)
    for word in words:
        name, _, amount = word.partition(" ")
        if word == "log":
            found = replace(found, log=True)
        elif name == "step" and amount:
            found = replace(found, step=_number(amount, suffix, unit, whole))
        elif re.fullmatch(r"\d+ points?", word):
            found = replace(found, points=int(name))
        else:
            raise ValueError(f"found '{word}' in the range, expected log, 'step N' or 'N points'")
    if problem := _unsound(found, unit):
        raise ValueError(f"found '{text}': {problem}")
    return found


def _half(unit: str) -> str:
    """An example of a range in a unit: '2.4..4.8 TB/s'."""
    number, _, suffix = units.UNITS[unit][1].partition(" ")
    return f"{float(number) / 2:g}..{number} {suffix}".rstrip()


def _number(text: str, suffix: str, unit: str, whole: bool) -> float:
    """A number of the range; one without a unit has that of the high end."""
    bare = re.fullmatch(rf"\s*{units.NUMBER}\s*", text)
    value = units.parse(f"{text.strip()} {suffix}".strip() if bare else text.strip(), unit)
    if whole and value != int(value):
        raise ValueError(f"found '{text.strip()}', expected a whole number")
    return int(value) if whole else value


def _unsound(r: Range, unit: str) -> str:
    """What is wrong with a range, '' if nothing."""
    low, high = show(r.low, unit), show(r.high, unit)
    rules = (
        (r.low > r.high, f"the range is reversed; expected the low end first, '{high}..{low}'"),
        (r.low == r.high, f"the range is empty, both ends are {low}; expected two different ends"),
        (
            r.step is not None and not 0 < r.step <= r.high - r.low,
            f"expected a step above 0 and at most {high} - {low}",
        ),
        (r.points is not None and not 2 <= r.points <= MOST, f"expected 2 to {MOST} points"),
        (r.step is not None and r.points is not None, "expected a step or a number of points, not both"),
        (r.log and r.step is not None, "a logarithmic range has no step; use 'N points'"),
        (r.log and r.low <= 0, f"a logarithmic range starts above 0, not at {low}"),
    )
    return next((text for wrong, text in rules if wrong), "")


def _points(r: Range, text: str, whole: bool) -> tuple[float, ...]:
    """The values of a sweep's range; whole numbers are rounded, each once."""
    if r.step is None and r.points is None:
        raise ValueError(f"found '{text}': how many points? Add 'step N' or ', N points'")
    if r.step is not None:
        count = math.floor((r.high - r.low) / r.step * (1 + 1e-12)) + 1
        if count > MOST:
            raise ValueError(f"found '{text}': {count} points; expected at most {MOST}")
        values = [r.low + i * r.step for i in range(count)]
    else:
        values = (np.geomspace if r.log else np.linspace)(r.low, r.high, r.points or 0).tolist()
        values[0], values[-1] = r.low, r.high
    return tuple(dict.fromkeys(round(v) for v in values)) if whole else tuple(float(v) for v in values)
