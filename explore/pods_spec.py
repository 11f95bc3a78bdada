"""The `pods:` section of a scenario: what runs together, within which budget, and what is searched."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field
from pydantic.dataclasses import dataclass

from explore import space
from hwspecs.errors import SpecError, nearest
from hwspecs.nodes import Node
from hwspecs.spec import CONFIG, Doc, Quantity, RuleError
from sim.scenario import Scenario, section
from sim.schedule import Budget, Schedule
from sim.vary import Number, is_possible, numbers, with_number

Fraction = Annotated[float, Quantity(ge=0, le=1, doc="of a denoising step alone")]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Range:
    """Offsets to choose from: a closed range of fractions."""

    low: Fraction = 0.0
    high: Fraction = 1.0
    free: Annotated[bool, Doc("an offset of its own for every member; else the same between all")] = False
    points: Annotated[
        int | None, Quantity(ge=2, le=1000, doc="values to choose from, evenly spaced; none: any in the range")
    ] = None

    def __post_init__(self) -> None:
        if self.high < self.low:
            raise RuleError([("high", f"found {self.high:g}, expected at least low, {self.low:g}")])


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Search:
    """What the search may choose."""

    size: Annotated[
        Annotated[tuple[Annotated[int, Quantity(ge=1)], ...], Field(min_length=1)] | None,
        Doc("members of a pod to choose from; none: 1, 2, 4, 8, as far as that many may run together"),
    ] = None
    stagger: Range = Range()
    streams: Annotated[
        tuple[Annotated[int, Quantity(ge=1)], ...] | None, Doc("streams to choose from; none: one for each member")
    ] = None
    partition: Annotated[
        Annotated[tuple[Literal["shared", "equal", "uneven"], ...], Field(min_length=1)],
        Doc("of the SMs: shared by all streams, in equal parts, or one part of any size and the rest in equal ones"),
    ] = ("shared",)
    overlap: Annotated[bool, Doc("also try text encoders and decoders of requests on streams of their own")] = False
    hardware: Annotated[
        dict[str, str] | None,
        Doc("numbers of the device to search at the same time: `device.hbm.bandwidth: 1..4 TB/s log`"),
    ] = None


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Given:
    """A schedule of one's own, shown beside the others; see sim.schedule.Schedule."""

    pods: Annotated[tuple[str, ...], Doc("the members of each pod: '7', '31-35', '1-4, 9'")]
    offsets: Annotated[tuple[float, ...], Doc("start of each member after the one before it, fraction of a step")] = ()
    streams: Annotated[int | None, Quantity(doc="streams in use; none: one for each member of the largest pod")] = None
    partition: Annotated[tuple[float, ...], Doc("share of the SMs of each stream; none: all share them")] = ()
    priority: Annotated[tuple[int, ...], Doc("of each stream, higher first")] = ()
    overlap: Annotated[bool, Doc("text encoders and decoders of requests on streams of their own")] = False


Objective: TypeAlias = Literal["makespan", "images_per_s", "first_image", "hbm_mean", "hbm_peak", "energy", "gain"]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Pods:
    """What runs together, and how it is searched."""

    members: Annotated[Literal["steps", "requests"], Doc("steps of one request, or requests of their own")]
    count: Annotated[int | None, Quantity(ge=1, doc="requests in all; of steps the request's own number")] = None
    budget: Annotated[Budget | None, Doc("how far steps may be relaxed")] = None
    search: Search = Search()
    schedule: Annotated[Given | None, Doc("a schedule of one's own")] = None
    objective: Annotated[
        Objective,
        Doc(
            "least makespan, first image, peak HBM use or energy; most images/s, mean HBM use or gain over serial and batched"
        ),
    ] = "makespan"
    trials: Annotated[int, Quantity(ge=1, doc="schedules to try, in all")] = 100
    seed: Annotated[int, Quantity(ge=0, le=2**32 - 1, doc="of the search")] = 0

    def __post_init__(self) -> None:
        """What belongs to steps and what to requests."""
        if problems := list(_misplaced(self)):
            raise RuleError(problems)


def load(scenario: Scenario, steps: int | None) -> tuple[Pods, Schedule | None]:
    """The section of a scenario, and the schedule that it gives. `steps`: of the request, None where the model has none.

    SpecError with every problem, placed in the file.
    """
    if "pods" not in scenario.sections:
        text = "missing; expected what runs together, for example `pods: {members: requests, count: 4}`"
        raise SpecError(f"{scenario.path}: pods: {text}")
    pods = section(scenario, "pods", Pods)
    node = scenario.sections["pods"]
    if pods.members == "steps" and steps is None:
        text = f"{scenario.model} has no denoising steps; use members: requests"
        raise SpecError((node.get("members") or node).problem("pods.members", text))
    count = int(pods.count or 0) if pods.members == "requests" else int(steps or 0)
    return pods, _given(node, pods, count)


def hardware(scenario: Scenario, pods: Pods) -> tuple[tuple[Number, space.Range], ...]:
    """The numbers of the device that are searched, and their ranges. SpecError with every problem, placed in the file."""
    known = {n.field: n for n in numbers(scenario.device)}
    node = scenario.sections["pods"]
    found: list[tuple[Number, space.Range]] = []
    problems: list[str] = []
    for path, text in (pods.search.hardware or {}).items():
        try:
            if path not in known:
                raise ValueError(f"unknown field{nearest(path, known)}")
            if path == "device.hbm.capacity":
                raise ValueError("it decides what fits, not how fast that runs; leave it out")
            number = known[path]
            wanted = space.parse(text, number.unit, number.whole)
            if wanted.points or wanted.step:
                raise ValueError(
                    f"found '{text}': a search draws from the whole range; leave out the points or the step"
                )
            if bad := [
                v for v in (wanted.low, wanted.high) if not is_possible(with_number(scenario.device, number, v))
            ]:
                raise ValueError(f"found '{text}': {space.show(bad[0], number.unit)} is not possible")
            found.append((number, wanted))
        except ValueError as error:
            all_of = node.get("search.hardware")
            place = (all_of.value.get(path) if all_of and isinstance(all_of.value, dict) else None) or node
            place = place if path in known else place.at_key()
            problems.append(place.problem(f"pods.search.hardware.{path}", str(error)))
    if problems:
        raise SpecError(problems)
    return tuple(found)


def _misplaced(p: Pods) -> Iterator[tuple[str, str]]:
    if p.members == "requests":
        most, name = p.count, "count"
        if p.count is None:
            yield "count", "missing; expected the number of requests, for example 8"
        if p.budget is not None:
            yield "budget", "requests do not depend on one another; leave it out, or use members: steps"
    else:
        most, name = (p.budget.largest, "budget.largest") if p.budget else (None, "")
        if p.search.overlap:
            yield (
                "search.overlap",
                "only stages of different requests may overlap; leave it out, or use members: requests",
            )
        if p.count is not None:
            yield "count", "the request says how many steps there are (request.steps); leave it out"
        if p.budget is None:
            wanted = "how far steps may be relaxed, for example `budget: {largest: 4, serial_first: 4, serial_last: 4}`"
            yield "budget", f"missing; expected {wanted}"
    if most is not None and (large := [s for s in p.search.size or () if s > most]):
        yield "search.size", f"found {', '.join(map(str, large))}, expected at most {name}, {most}"


def _given(node: Node, pods: Pods, count: int) -> Schedule | None:
    """The schedule of one's own; its problems at its fields."""
    given = pods.schedule
    if given is None:
        return None
    problems: list[tuple[str, str]] = []
    members = tuple(_members(text, i, problems) for i, text in enumerate(given.pods))
    if not problems:
        try:
            return Schedule(
                pods.members, count, members, given.offsets, given.streams, False, pods.budget, given.partition,
                given.priority, given.overlap,
            )  # fmt: skip
        except RuleError as error:
            problems.extend(error.pairs)
    raise SpecError(space.tidied(list(_placed(node, problems))))


def _members(text: str, index: int, problems: list[tuple[str, str]]) -> tuple[int, ...]:
    """'1-4, 9' -> (1, 2, 3, 4, 9); what cannot be read is noted."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})(?:\s*[-–]\s*(\d{1,6}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            problems.append((f"pods.{index}", f"found '{text}', expected members such as '7', '31-35' or '1-4, 9'"))
            return ()
        found.extend(range(first, last + 1))
    return tuple(found)


def _placed(node: Node, problems: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """At the field of the schedule that a problem names."""
    for path, text in problems:
        name, _, index = path.partition(".")
        place = node.get(f"schedule.{name}") or node.get("schedule") or node
        if index and isinstance(place.value, list):
            place = place.value[int(index)]
        yield place.problem(f"pods.schedule.{path}", text)
