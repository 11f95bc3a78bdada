"""Templates: what a stage computes at any size, as package data, so that no torch is needed.

A template holds the calls of one structure (operators, order, connections), and an exact expression in the stage's numbers
(`workloads.signature`) for every dimension and tensor size. Where the structure changes with the numbers, a tree of conditions
says which template was proven where; outside of what was proven there is none. One file in `traces/` a function that builds
modules: `python -m workloads.regenerate` finds, proves and writes them.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from hwspecs.errors import SpecError
from workloads.formulas import Formulas, formulas
from workloads.kind import Ints
from workloads.looped import Looped, looped, looped_data
from workloads.model import Stage
from workloads.parts.meta import only_sizes
from workloads.signature import signature
from workloads.trace import Segment, Trace

FOLDER = Path(__file__).parent / "traces"
SUFFIX = ".json.xz"
NONE = -1  # leaf of a tree: no template was proven there
_COLUMNS = ("call_op", "call_path", "call_in_attention", "input_offsets", "input_ids", "output_offsets", "output_ids")
_NAMES = ("kinds", "dtypes", "labels", "paths")


@dataclass(frozen=True)
class Template:
    """A stage's trace at some numbers, with expressions in place of its sizes.

    Attributes:
        trace: one segment without a name; of its sizes only shapes matter.
        dims: (ops, widest kind) expression of each dimension.
        tensor_bytes: (tensors,) expression of each.
        totals: expressions of the parameters and of the bytes of the weights.
        formulas: the expressions.
    """

    trace: Trace
    dims: Ints
    tensor_bytes: Ints
    totals: tuple[int, int]
    formulas: Formulas

    def at(self, symbols: Ints) -> Trace:
        """The stage's trace; two of its operators may be equal. ArithmeticError where an expression is not whole."""
        values = self.formulas.at(symbols)
        (segment,) = self.trace.segments
        parameters, weight_bytes = (int(values[i]) for i in self.totals)
        return replace(
            self.trace,
            op_dims=values[self.dims],
            tensor_bytes=values[self.tensor_bytes],
            segments=(replace(segment, parameters=parameters, weight_bytes=weight_bytes),),
        )


@dataclass(frozen=True)
class Family:
    """The templates of one key.

    Attributes:
        places: for each number of a signature the symbol that it is, or NONE where it is fixed.
        fixed: the numbers that are fixed; 0 elsewhere.
        tree: which template where; a leaf is an index or NONE. A node is [symbol, other, modulus, low, high, yes, no]: of
            value = symbol (modulo modulus, minus the other symbol: each where it is not NONE), `yes` up to low, `no` from high.
        templates: what the leaves index.
    """

    places: Ints
    fixed: Ints
    tree: Any
    templates: tuple[Template | Looped, ...]

    def at(self, numbers: Sequence[int]) -> Trace | None:
        """The stage's trace at a signature's numbers, None where nothing was proven."""
        symbols = self.symbols(numbers)
        leaf = NONE if symbols is None else chosen(self.tree, symbols)
        try:
            return None if symbols is None or leaf == NONE else self.templates[leaf].at(symbols)
        except ArithmeticError:  # a size that is not whole: nothing that a capture ever gave
            return None

    def symbols(self, numbers: Sequence[int]) -> Ints | None:
        """The values of the symbols; None where a fixed number differs, or two that are one symbol, or there are others."""
        given = np.array(numbers, dtype=np.int64)
        if len(given) != len(self.places):
            return None
        count = int(self.places.max(initial=NONE)) + 1
        values = np.zeros(count, dtype=np.int64)
        free = self.places != NONE
        values[self.places[free]] = given[free]
        expected = np.where(free, values[self.places] if count else 0, self.fixed)
        return values if np.array_equal(given, expected) else None


YES, NO = 5, 6  # the places of a node's two sides


def side(node: Any, symbols: Ints) -> int | None:
    """The place of the side that the values of the symbols are on, YES or NO; None between the two."""
    symbol, other, modulus, low, high, *_ = node
    value = int(symbols[symbol]) - (int(symbols[other]) if other != NONE else 0)
    value = abs(value % modulus if modulus else value)
    return YES if value <= low else NO if value >= high else None


def chosen(tree: Any, symbols: Ints) -> int:
    """The leaf of a tree for the values of the symbols; NONE where they lie between two structures."""
    while not isinstance(tree, int):
        at = side(tree, symbols)
        tree = NONE if at is None else tree[at]
    return int(tree)


def stage_trace(stage: Stage, frames: int | None) -> Trace | None:
    """A stage of a request with that many frames (None: it has none), from its template; None where there is none.

    One segment, its names and repeats those of the stage; two of its operators may be equal. SpecError as `whole`.
    """
    found = signature(stage, frames)
    family = None if found is None else families(found.function).get(digest(found.key))
    given = None if family is None or found is None else family.at(found.numbers)
    if given is None:
        return None
    trace = whole(stage, given)
    (segment,) = trace.segments
    named = replace(segment, name=stage.name, module=stage.module, repeats=stage.repeats)
    return replace(trace, segments=(named,), paths=_under(stage.name, trace.paths))


def whole(stage: Stage, trace: Trace) -> Trace:
    """What a template gives of a stage -> what the stage runs. SpecError where its library cannot run it."""
    if stage.cut is None:
        return trace
    with only_sizes():
        (first, *_), _ = stage.inputs()
    try:
        return stage.cut(trace, first.shape)
    except SpecError as error:
        raise SpecError(f"{stage.name}.{error}") from None


@cache
def _under(name: str, paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(".".join(part for part in (name, path) if part) for path in paths)


def digest(key: str) -> str:
    """A key as files have it."""
    return sha256(key.encode()).hexdigest()[:16]


def file_of(function: str) -> Path:
    """Where the templates of a function are: 'workloads.models.sdxl.unet' -> sdxl.unet.json.xz."""
    return FOLDER / (function.removeprefix("workloads.").removeprefix("models.") + SUFFIX)


@cache
def families(function: str) -> Mapping[str, Family]:
    """The families of the modules that a function builds, by `digest` of their keys; none where it has no file."""
    path = file_of(function)
    entries = load(path)["families"] if path.exists() else {}
    return {name: family(entry, entries) for name, entry in entries.items()}


def load(path: Path) -> dict[str, Any]:
    """The JSON of a file of templates."""
    found: dict[str, Any] = json.loads(lzma.decompress(path.read_bytes()))
    return found


def write(path: Path, data: Mapping[str, Any]) -> None:
    """The same data give the same bytes. Who is stopped while writing leaves the file as it was."""
    text = json.dumps(data, separators=(",", ":"), sort_keys=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.half")
    half.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    half.replace(path)


def family_data(found: Family) -> dict[str, Any]:
    """A family as JSON."""
    return {
        "places": found.places.tolist(),
        "fixed": found.fixed.tolist(),
        "tree": found.tree,
        "templates": [template_data(t) for t in found.templates],
    }


def family(entry: Mapping[str, Any], entries: Mapping[str, Any]) -> Family:
    """The family of an entry of a file; it may be that of another with its dtypes renamed."""
    own = entries[entry["like"]] if "like" in entry else entry
    found = [looped(d) if "loops" in d else template(d) for d in own["templates"]]
    mine = tuple(_renamed(t, entry.get("dtypes", {})) for t in found)
    return Family(_ints(own["places"]), _ints(own["fixed"]), own["tree"], mine)


def _renamed(found: Template | Looped, dtypes: Mapping[str, str]) -> Template | Looped:
    if not dtypes:
        return found
    return replace(found, trace=replace(found.trace, dtypes=tuple(dtypes.get(d, d) for d in found.trace.dtypes)))


def template_data(found: Template | Looped) -> dict[str, Any]:
    """A template as JSON: whole numbers as differences, which compress better."""
    if isinstance(found, Looped):
        return looped_data(found)
    trace = found.trace
    return {
        **{name: list(getattr(trace, name)) for name in _NAMES},
        **{name: _steps(getattr(trace, name)) for name in _COLUMNS},
        "tensor_is_weight": _steps(trace.tensor_is_weight),
        "ops": np.column_stack([trace.op_kind, trace.op_dtype, trace.op_label, found.dims]).tolist(),
        "tensor_bytes": _steps(found.tensor_bytes),
        "totals": found.totals,
        "formulas": found.formulas.data(),
    }


def template(data: Mapping[str, Any]) -> Template:
    """What `template_data` gave, back."""
    ops = _ints(data["ops"]).reshape(len(data["ops"]), -1)
    columns: dict[str, Any] = {
        name: np.cumsum(_ints(data[name])) for name in (*_COLUMNS, "tensor_is_weight", "tensor_bytes")
    }
    bools: dict[str, Any] = {
        name: columns.pop(name).astype(np.bool_) for name in ("call_in_attention", "tensor_is_weight")
    }
    tensor_bytes = columns.pop("tensor_bytes")
    names: dict[str, Any] = {name: tuple(data[name]) for name in _NAMES}
    trace = Trace(
        model="",
        request={},
        **names,
        op_kind=ops[:, 0], op_dtype=ops[:, 1], op_label=ops[:, 2], op_dims=ops[:, 3:],
        tensor_bytes=tensor_bytes,
        **columns,
        **bools,
        segments=(Segment("", "", 0, len(columns["call_op"]), 1, 0, 0),),
    )  # fmt: skip
    parameters, weight_bytes = data["totals"]
    return Template(trace, ops[:, 3:], tensor_bytes, (parameters, weight_bytes), formulas(data["formulas"]))


def _steps(column: Any) -> list[int]:
    return np.diff(column.astype(np.int64), prepend=0).tolist()  # type: ignore[no-any-return]


def _ints(values: Any) -> Ints:
    return np.array(values, dtype=np.int64)
