"""Schedule: which denoising steps or requests run at the same time on one device, and how they are offset; holds no time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, TypeAlias

from pydantic.dataclasses import dataclass as spec_dataclass

from hwspecs.spec import CONFIG, Quantity, RuleError

Members: TypeAlias = Literal["steps", "requests"]
Mode: TypeAlias = Literal["serial", "batched", "lockstep", "staggered"]
Pods: TypeAlias = tuple[tuple[int, ...], ...]


@spec_dataclass(frozen=True, kw_only=True, config=CONFIG)
class Budget:
    """How far the order of denoising steps may be relaxed; what that does to the image is not modelled."""

    largest: Annotated[int, Quantity(ge=1, doc="steps that may run at the same time")] = 4
    serial_first: Annotated[int, Quantity(ge=0, doc="steps at the start that run one after another")] = 4
    serial_last: Annotated[int, Quantity(ge=0, doc="steps at the end that run one after another")] = 4


@dataclass(frozen=True)
class Schedule:
    """Pods run one after another; the members of a pod run at the same time, each on a stream.

    Attributes:
        members: what a member is: a denoising step of one request, or a request.
        count: members in all, numbered from 1.
        pods: the members of each pod.
        offsets: for every member of the largest pod after its first, its start after the member before it, as a fraction
            of a step alone (of an inference where the model has no steps); () is all 0.
        streams: streams in use; None is one for each member of the largest pod. With fewer, members wait for their turn.
        batched: the members of a pod run as one larger batch instead.
        budget: how far steps may be relaxed; None for requests, which do not depend on one another.
        partition: share of the SMs that each stream has for itself; () for SMs that all streams share.
        priority: of each stream, higher first; () for equal ones.
        overlap: of requests: text encoders and decoders run on streams of their own, beside the steps of other requests.

    Raises RuleError (a ValueError) that places every problem in the field that it is in.
    """

    members: Members
    count: int
    pods: Pods
    offsets: tuple[float, ...] = ()
    streams: int | None = None
    batched: bool = False
    budget: Budget | None = None
    partition: tuple[float, ...] = ()
    priority: tuple[int, ...] = ()
    overlap: bool = False

    def __post_init__(self) -> None:
        problems = [*_members(self), *_order(self), *_budget(self), *_offsets(self), *_streams(self), *_shares(self)]
        if problems:
            raise RuleError(problems)

    @property
    def largest(self) -> int:
        """Members of the largest pod."""
        return max(len(pod) for pod in self.pods)

    @property
    def mode(self) -> Mode:
        """How the members of a pod run."""
        if self.batched:
            return "batched"
        if not self.overlap and (self.largest == 1 or self.streams == 1):
            return "serial"
        if self.overlap:
            return "staggered"
        return "staggered" if any(self.offsets) else "lockstep"

    def words(self) -> str:
        """The schedule as people say it: 'steps: 4 alone, 10 pods of 4, 4 alone, each 0.3 of a step after the one before'."""
        if self.mode == "serial":
            return f"{self.count} {self.members} one after another"
        what = "batch" if self.batched else "pod"
        if len(self.pods) == 1:
            text = f"{self.count} {self.members} " + ("as one batch" if self.batched else "at a time")
        else:
            sizes = _run_lengths([len(pod) for pod in self.pods])
            text = f"{self.members}: {', '.join(_said(what, size, times) for size, times in sizes)}"
        streams = f", on {self.streams} streams" if self.streams not in (None, self.largest) else ""
        return text + streams + _offset_words(self) + _share_words(self)


def serial(members: Members, count: int) -> Schedule:
    """One member after another."""
    return Schedule(members, count, tuple((i,) for i in range(1, count + 1)))


def podded(
    count: int, size: int, stagger: float = 0.0, budget: Budget | None = None, batched: bool = False
) -> Schedule:
    """Pods of `size` (the last may be smaller) with even offsets; of steps with a budget, else of requests."""
    first, last = (budget.serial_first, budget.serial_last) if budget else (0, 0)
    first = min(first, count)
    last = min(last, count - first)
    middle = range(first + 1, count - last + 1)
    singles = [[(i,) for i in part] for part in (range(1, first + 1), range(count - last + 1, count + 1))]
    chunks = [tuple(middle[i : i + size]) for i in range(0, len(middle), size)]
    pods = (*singles[0], *chunks, *singles[1])
    largest = max(len(pod) for pod in pods)
    offsets = (stagger,) * (largest - 1) if stagger and not batched else ()
    return Schedule("steps" if budget else "requests", count, pods, offsets, None, batched, budget)


def spans(numbers: Iterable[int]) -> str:
    """'3', '31–35' or '1, 4–6': ascending numbers with neighbours joined."""
    runs: list[list[int]] = []
    for n in sorted(numbers):
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}–{r[-1]}" for r in runs)


def named(members: Members, numbers: Sequence[int]) -> str:
    """'step 3', 'steps 31–35', 'requests 1–8'."""
    return f"{members if len(numbers) > 1 else members[:-1]} {spans(numbers)}"


Problems: TypeAlias = Iterator[tuple[str, str]]


def _members(s: Schedule) -> Problems:
    """Every member is in exactly one pod, and every pod has one."""
    one = s.members[:-1]
    if s.count < 1 or not s.pods:
        yield "pods", f"found none, expected pods that hold every {one} from 1 to {s.count}"
        return
    for number, pod in enumerate(s.pods, 1):
        if not pod:
            yield "pods", f"pod {number} is empty; leave it out"
        if wrong := sorted({m for m in pod if not 1 <= m <= s.count}):
            verb = "does" if len(wrong) == 1 else "do"
            yield "pods", f"{named(s.members, wrong)} of pod {number} {verb} not exist; expected 1 to {s.count}"
        if twice := sorted({m for m in pod if pod.count(m) > 1}):
            yield "pods", f"{named(s.members, twice)} {_appear(twice)} twice in pod {number}"
    for pair, shared in _shared(s).items():
        where = f"(pod {pair[0]} and pod {pair[1]})"
        text = f"{named(s.members, shared)} {_appear(shared)} in two pods {where}; a {one} belongs to exactly one"
        yield "pods", text
    if missing := sorted(set(range(1, s.count + 1)) - {m for pod in s.pods for m in pod}):
        verb = "is" if len(missing) == 1 else "are"
        yield "pods", f"{named(s.members, missing)} {verb} in no pod; every {one} from 1 to {s.count} belongs to one"


def _shared(s: Schedule) -> dict[tuple[int, int], list[int]]:
    """Members that appear in two pods, by the first two of them."""
    found: dict[tuple[int, int], list[int]] = {}
    first: dict[int, int] = {}
    for number, pod in enumerate(s.pods, 1):
        for member in sorted(set(pod)):
            if first.setdefault(member, number) != number:
                found.setdefault((first[member], number), []).append(member)
    return found


def _appear(members: Sequence[int]) -> str:
    return "appears" if len(members) == 1 else "appear"


def _order(s: Schedule) -> Problems:
    """A pod of steps starts where the pod before it has ended; only inside a pod is the order relaxed."""
    if s.members == "steps" and not list(_members(s)):
        for number, (before, after) in enumerate(pairwise(s.pods), 2):
            if min(after) < max(before):
                text = f"step {min(after)} of pod {number} comes before step {max(before)} of pod {number - 1}"
                yield "pods", f"{text}; only steps of the same pod may change order"


def _budget(s: Schedule) -> Problems:
    b = s.budget
    if b is None:
        return
    for number, pod in enumerate(s.pods, 1):
        if len(pod) > b.largest:
            what = f"pod {number} ({named(s.members, pod)}) holds {len(pod)} {s.members}"
            yield "pods", f"{what}; the staleness budget allows {b.largest} (budget.largest)"
        ends = (("first", b.serial_first, range(1, b.serial_first + 1)),
                ("last", b.serial_last, range(s.count - b.serial_last + 1, s.count + 1)))  # fmt: skip
        for name, kept, serial_ones in ends:
            if len(pod) > 1 and (wrong := sorted({m for m in pod if m in serial_ones})):
                what = f"{named(s.members, wrong)} of pod {number} would not run alone"
                yield "pods", f"{what}; budget.serial_{name} is {kept}"


def _offsets(s: Schedule) -> Problems:
    largest = max((len(pod) for pod in s.pods), default=0)
    if s.offsets and len(s.offsets) != largest - 1:
        wanted = f"{largest - 1}, one for each member of the largest pod after its first"
        yield "offsets", f"found {len(s.offsets)}, expected {wanted}"
        return
    for number, pod in enumerate(s.pods, 1):
        for member, offset in zip(pod[1:], s.offsets, strict=False):
            if not 0 <= offset <= 1:
                what = f"{named(s.members, [member])} of pod {number} starts {offset:g} steps after the one before it"
                yield "offsets", f"{what}; expected 0 to 1"


def _streams(s: Schedule) -> Problems:
    sizes = [len(pod) for pod in s.pods]
    largest = max(sizes, default=0)
    if s.streams is not None and not 1 <= s.streams <= largest:
        where = (
            f"pod {sizes.index(largest) + 1}, the largest, has {largest} {s.members if largest > 1 else s.members[:-1]}"
        )
        yield "streams", f"found {s.streams}, but {where}; expected 1 to {largest}"


def _shares(s: Schedule) -> Problems:
    """One share of the SMs, and one priority, for each stream; nothing that an overlap of stages cannot have."""
    used = min(s.streams or s.largest, s.largest) if s.pods else 0
    for name, values in (("partition", s.partition), ("priority", s.priority)):
        if values and len(values) != used:
            yield name, f"found {len(values)}, expected {used}, one for each stream"
    for number, share in enumerate(s.partition, 1):
        if not 0 < share <= 1:
            yield "partition", f"found {share:g} for stream {number}, expected above 0 and at most 1 of the SMs"
    if sum(s.partition) > 1 + 1e-9:
        yield "partition", f"found shares that add up to {sum(s.partition):g}, expected at most 1"
    if s.overlap and (s.members == "steps" or s.batched):
        yield "overlap", "only stages of different requests, each on streams of its own, may overlap"
    if s.overlap and (s.offsets or s.partition or s.priority):
        given = next(n for n in ("offsets", "partition", "priority") if getattr(s, n))
        yield given, "found beside overlap, which says when each stage starts; leave one of them out"


def _share_words(s: Schedule) -> str:
    parts = []
    if s.partition:
        parts.append(f"with {', '.join(f'{100 * p:.0f}' for p in s.partition)} % of the SMs")
    if s.priority:
        parts.append(f"with priorities {', '.join(map(str, s.priority))}")
    if s.overlap:
        parts.append("text encoders and decoders on streams of their own")
    return "".join(f", {part}" for part in parts)


def _run_lengths(values: Sequence[int]) -> list[tuple[int, int]]:
    """(value, times in a row)."""
    runs: list[tuple[int, int]] = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1] = (value, runs[-1][1] + 1)
        else:
            runs.append((value, 1))
    return runs


def _said(what: str, size: int, times: int) -> str:
    if size == 1:
        return f"{times} alone"
    return f"{times} {what}{'s' if what == 'pod' and times > 1 else 'es' if times > 1 else ''} of {size}"


def _offset_words(s: Schedule) -> str:
    if s.batched:
        return ""
    if s.overlap:
        return ""
    if not any(s.offsets):
        return ", started together"
    if len(set(s.offsets)) == 1:
        return f", each {s.offsets[0]:.3g} of a step after the one before"
    return f", offset by {', '.join(f'{o:.3g}' for o in s.offsets)} of a step"
