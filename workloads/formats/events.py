"""A PyTorch Profiler timeline (Chrome JSON) -> operators in a tree, and the kernels that each of them launched.

What is read of the file (torch/csrc/autograd/profiler_kineto.cpp and Kineto's output_json.cpp): complete events (`ph` X) of the
categories cpu_op (operators), python_function (those named 'nn.Module: ...') and user_annotation (where an operator runs),
cuda_runtime and cuda_driver (who launched), kernel, gpu_memcpy and gpu_memset (what the device did), and flows ac2g. Loads no
torch and computes nothing: see `replay` for what the operators are.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from hwspecs.errors import SpecError

Event: TypeAlias = Mapping[str, Any]
WHERE = ("python_function", "user_annotation")  # categories that tell where an operator runs
LAUNCHES = ("cuda_runtime", "cuda_driver")
ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
MODULE, STEP = "nn.Module: ", "ProfilerStep#"  # prefixes that torch gives to the names of events
LISTS = ("TensorList", "GenericList")  # types of arguments that are several tensors
LARGEST = 1 << 40  # extent of an axis: above it, a file is damaged
US = 1e-6  # s per microsecond, the unit of ts and dur
EXPECTED = "expected a trace that torch.profiler exported (export_chrome_trace) with record_shapes=True"
AS_CHAKRA = "expected a timeline of torch.profiler, or Chakra (.et), which chakra_converter makes of this file"


@dataclass(frozen=True)
class Operator:
    """One cpu_op, as it ran.

    Attributes:
        name: 'aten::addmm'. parent: index of the operator around it, -1 for none.
        types, dims, strides, values: of each argument, as the profiler writes them; dims of a tensor list are a list of lists.
        path: module classes with their numbers, and annotations, outermost first. modules: those of them that are modules.
        step: 'ProfilerStep#3', or '' outside of steps. seconds: on the CPU, children included.
        ids, results: of its arguments and of what it returns, where the file names tensors; a profiler's timeline does not.
    """

    name: str
    parent: int
    types: tuple[str, ...]
    dims: tuple[Any, ...]
    strides: tuple[Any, ...]
    values: tuple[str, ...]
    path: str
    modules: tuple[str, ...]
    step: str
    seconds: float
    ids: tuple[Any, ...] = ()
    results: tuple[int, ...] = ()


@dataclass(frozen=True)
class Kernel:
    """One kernel, copy or fill on the device; `operator`: index of the innermost operator that launched it, -1 if unknown."""

    name: str
    operator: int
    seconds: float


@dataclass(frozen=True)
class Timeline:
    """Operators in the order in which they began (a parent before its children), and kernels."""

    operators: tuple[Operator, ...]
    kernels: tuple[Kernel, ...]


def read(path: Path) -> Timeline:
    """The timeline in a .json or .json.gz file.

    Raises SpecError for a file that cannot be read, is truncated or foreign, or was recorded without shapes.
    """
    events = _events(path)
    operators = [e for e in events if e.get("cat") == "cpu_op" and e.get("ph") == "X"]
    if not operators:
        raise SpecError(f"{path}: holds no event of category 'cpu_op'; {EXPECTED}")
    if not any("Input Dims" in _args(e) for e in operators):
        raise SpecError(f"{path}: was recorded without shapes; record it again with profile(record_shapes=True)")
    if not any("Concrete Inputs" in _args(e) for e in operators):
        raise SpecError(f"{path}: has no 'Concrete Inputs', as traces of old torch; record it with torch 2.4 or newer")
    try:
        return _timeline(events)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = (
            f"an event lacks {error}"
            if isinstance(error, KeyError)
            else f"an event has a field of another form: {error}"
        )
        raise SpecError(f"{path}: {what}; {EXPECTED}") from None


def is_timeline(stored: bytes) -> bool:
    """Whether a file that begins with these bytes may be such a timeline: JSON, or compressed."""
    return stored[:2] == b"\x1f\x8b" or stored.lstrip()[:1] in (b"{", b"[")


def _events(path: Path) -> list[Event]:
    try:
        stored = path.read_bytes()
        text = gzip.decompress(stored) if stored[:2] == b"\x1f\x8b" else stored
        data = json.loads(text)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise SpecError(f"{path}: truncated or damaged (gzip); {EXPECTED}") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot read the trace: {(error.strerror or str(error)).lower()}") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise SpecError(f"{path}: truncated, or not JSON ({where}); {EXPECTED}") from None
    except (UnicodeDecodeError, RecursionError):
        raise SpecError(f"{path}: not JSON; {EXPECTED}") from None
    if isinstance(data, dict) and "nodes" in data and "traceEvents" not in data:
        raise SpecError(f"{path}: an execution trace as JSON, schema {data.get('schema', 'not named')}; {AS_CHAKRA}")
    events = data.get("traceEvents") if isinstance(data, dict) else data
    if not isinstance(events, list) or not all(isinstance(e, dict) for e in events):
        raise SpecError(f"{path}: holds no list 'traceEvents'; {EXPECTED}")
    return events


def _args(event: Event) -> Mapping[str, Any]:
    args = event.get("args")
    return args if isinstance(args, dict) else {}


@dataclass
class _Open:
    """Events around a moment of one thread, outermost first: end (us), place or '', operator or -1."""

    ends: list[float]
    places: list[str]
    operators: list[int]

    def at(self, moment: float) -> None:
        while self.ends and self.ends[-1] <= moment:
            for column in (self.ends, self.places, self.operators):
                column.pop()

    def push(self, end: float, place: str, operator: int) -> None:
        self.ends.append(end)
        self.places.append(place)
        self.operators.append(operator)

    @property
    def operator(self) -> int:
        return next((i for i in reversed(self.operators) if i >= 0), -1)


def _timeline(events: Sequence[Event]) -> Timeline:
    """Nesting is by time within a thread, as the profiler writes no other."""
    operators: list[Operator] = []
    by_id: dict[Any, int] = {}  # 'External id' -> operator
    by_launch: dict[Any, int] = {}  # correlation -> operator
    threads: dict[tuple[Any, Any], _Open] = {}
    for event in sorted(filter(_on_host, events), key=lambda e: (float(e["ts"]), -float(e.get("dur", 0)))):
        inside = threads.setdefault((event["pid"], event["tid"]), _Open([], [], []))
        inside.at(float(event["ts"]))
        category, end = event["cat"], float(event["ts"]) + float(event.get("dur", 0))
        if category == "cpu_op":
            by_id[_args(event).get("External id")] = len(operators)
            inside.push(end, "", len(operators))
            operators.append(_operator(event, inside))
        elif category in WHERE:
            inside.push(end, event["name"], -1)
        else:
            by_launch.setdefault(_correlation(event), inside.operator)
    for found in (by_id, by_launch):
        found.pop(None, None)  # events that carry no id
    return Timeline(tuple(operators), tuple(_kernels(events, by_id, by_launch)))


def _on_host(event: Event) -> bool:
    category, phase = event.get("cat"), event.get("ph")
    if category == "ac2g":
        return phase == "s"
    is_module = category != "python_function" or str(event.get("name")).startswith(MODULE)
    return phase == "X" and is_module and category in ("cpu_op", *WHERE, *LAUNCHES)


def _correlation(event: Event) -> Any:
    return event.get("id") if event["cat"] == "ac2g" else _args(event).get("correlation")


def _operator(event: Event, inside: _Open) -> Operator:
    args = _args(event)
    dims = tuple(args.get("Input Dims", ()))
    places = [p for p in inside.places if p and not p.startswith(STEP)]
    types, strides = (
        tuple(args.get("Input type", ("",) * len(dims))),
        tuple(args.get("Input Strides", ([],) * len(dims))),
    )
    values = tuple(args.get("Concrete Inputs", ("",) * len(dims)))
    alike = len(types) == len(dims) == len(strides) == len(values)
    if not (alike and all(map(is_argument, types, dims, strides))):
        raise ValueError(f"operator {event['name']} has {len(types)} types, dims {dims}, strides {strides}")
    return Operator(
        name=str(event["name"]),
        parent=next((i for i in reversed(inside.operators[:-1]) if i >= 0), -1),
        types=types,
        dims=dims,
        strides=strides,
        values=tuple(map(str, values)),
        path=".".join(p.removeprefix(MODULE) for p in places),
        modules=tuple(p.removeprefix(MODULE) for p in places if p.startswith(MODULE)),
        step=next((p for p in inside.places if p.startswith(STEP)), ""),
        seconds=US * float(event["dur"]),
    )


def is_argument(kind: Any, dims: Any, strides: Any) -> bool:
    """Whether dims and strides are what the profiler writes of an argument of that type: extents, of a list lists of them."""
    if kind in LISTS:
        return isinstance(dims, list) and isinstance(strides, list) and all(map(_are_sizes, (*dims, *strides)))
    return _are_sizes(dims) and _are_sizes(strides) and len(strides) in (0, len(dims))


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, int) and 0 <= v < LARGEST for v in value)


def _kernels(events: Iterable[Event], by_id: Mapping[Any, int], by_launch: Mapping[Any, int]) -> Iterable[Kernel]:
    """The operator is that of the kernel's External id, else the one around its launch."""
    for event in events:
        if event.get("cat") in ON_DEVICE and event.get("ph") == "X":
            args = _args(event)
            launched = by_launch.get(args.get("correlation"), -1)
            yield Kernel(str(event["name"]), by_id.get(args.get("External id"), launched), US * float(event["dur"]))
