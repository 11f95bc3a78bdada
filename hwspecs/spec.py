"""Nodes of YAML <-> frozen pydantic dataclasses whose fields carry units, bounds and documentation.

A field says everything once, `bandwidth: Annotated[float, Quantity("B/s", gt=0, doc="...")]`; loading, messages,
`--set`, the JSON Schema, `dump` and the docs read it. Every problem of a tree is reported, one line each.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError, core_schema

from hwspecs import units
from hwspecs.errors import SpecError, nearest
from hwspecs.nodes import CORE, TAG, Node, mapping, merge, parse, read, set_path, shown, wrap

__all__ = [
    "CONFIG", "WHEN_GIVEN", "Doc", "Field", "Node", "Quantity", "RuleError", "build", "dump", "fields", "mapping", "merge",
    "parse", "placed", "read", "schema", "set_path", "to_data", "wrap",
]  # fmt: skip

T = TypeVar("T")
CONFIG = ConfigDict(
    extra="forbid", allow_inf_nan=False
)  # of every spec: @dataclass(frozen=True, kw_only=True, config=CONFIG)
WHEN_GIVEN = "when given"  # in the Annotated of a field that dumps leave out while it is None
_TEXT = {"text": True}  # validation context of what came from YAML or --set: numbers with a unit must be text


class RuleError(ValueError):
    """What `__post_init__` raises to place several problems: pairs (path of a field below the object, text)."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self.pairs = tuple(pairs)
        super().__init__("; ".join(f"{path}: {text}" if path else text for path, text in self.pairs))


@dataclass(frozen=True)
class Doc:
    """What a field that is no quantity means: `Annotated[str, Doc("...")]`; descriptive: no result depends on it."""

    doc: str = ""
    descriptive: bool = False


@dataclass(frozen=True)
class Quantity:
    """Unit, bounds (in the SI base unit) and meaning of a number: `Annotated[float, Quantity("B/s", gt=0, doc="...")]`.

    unit "" is a count or a ratio, written as a bare number; any other is written as text with its unit.
    """

    unit: str = ""
    _: dataclasses.KW_ONLY
    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    doc: str = ""
    descriptive: bool = False

    def __get_pydantic_core_schema__(self, source: Any, _handler: Any) -> core_schema.CoreSchema:
        """pydantic's hook: this field is read by `_read`."""
        whole = int in (source, *get_args(source))

        def check(value: Any, info: ValidationInfo) -> float:
            return self._read(value, whole, bool(info.context and info.context.get("text")))

        read = core_schema.with_info_plain_validator_function(
            check, metadata={"pydantic_js_functions": [lambda _schema, _handler: self._schema(whole)]}
        )
        return core_schema.nullable_schema(read) if type(None) in get_args(source) else read

    def expected(self, whole: bool) -> str:
        """'a whole number of at least 1', "a rate greater than 0 B/s": noun and bounds, for messages."""
        noun = "a whole number" if whole else units.UNITS[self.unit][0]
        words = (("greater than", self.gt), ("at least", self.ge), ("less than", self.lt), ("at most", self.le))
        bounds = [f"{word} {_number(bound, self.unit)}" for word, bound in words if bound is not None]
        of = " of " if bounds and bounds[0].startswith("at ") else " "
        return f"{noun}{of}{' and '.join(bounds)}".rstrip()

    def _read(self, value: Any, whole: bool, from_text: bool) -> float:
        """The number in `value`; PydanticCustomError 'quantity' carries what was expected."""
        if isinstance(value, str):
            try:
                number: float = units.parse(value, self.unit)
            except ValueError as error:
                hint = re.search(r"; did you mean .*$|: the value is out of range$", str(error))
                raise self._refuse(whole, unit=True, hint=hint[0] if hint else "") from None
            number = int(value) if whole and re.fullmatch(r"[+-]?\d+", value) else number
        elif isinstance(value, bool) or not isinstance(value, int | float) or (from_text and self.unit):
            raise self._refuse(whole, unit=True)
        else:
            number = value
        if not math.isfinite(number) or (whole and number != int(number)) or not self._within(number):
            raise self._refuse(whole)
        return int(number) if whole else float(number)

    def _within(self, number: float) -> bool:
        return (
            (self.gt is None or number > self.gt)
            and (self.ge is None or number >= self.ge)
            and (self.lt is None or number < self.lt)
            and (self.le is None or number <= self.le)
        )

    def _refuse(self, whole: bool, unit: bool = False, hint: str = "") -> PydanticCustomError:
        wanted = units.expected(self.unit) if unit and self.unit else self.expected(whole)
        return PydanticCustomError("quantity", "expected {wanted}", {"wanted": wanted + hint})

    def _schema(self, whole: bool) -> dict[str, Any]:
        about = {"description": self.doc} if self.doc else {}
        if self.unit:
            example = units.UNITS[self.unit][1]
            return {
                "type": "string",
                "pattern": units.pattern(self.unit),
                "examples": [example],
                "x-unit": self.unit,
            } | about
        names = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}
        bounds = {names[k]: getattr(self, k) for k in names if getattr(self, k) is not None}
        return {"type": "integer" if whole else "number", **bounds, **about}


@dataclass(frozen=True)
class Field:
    """One leaf of a spec: dotted path, unit ("" for counts, ratios, text), meaning, whether results ignore it, type."""

    path: str
    unit: str
    doc: str
    descriptive: bool
    type: Any

    @property
    def numeric(self) -> bool:
        """A number (bool apart)."""
        return self.type in (int, float)

    @property
    def switch(self) -> bool:
        """True or false, and results depend on it."""
        return self.type is bool and not self.descriptive


def build(cls: type[T], node: Node, *, at: str = "") -> T:
    """The dataclass `cls` from a tree. SpecError lists every problem; `at` goes before the field paths in them."""
    if not isinstance(node.value, dict):
        raise SpecError(node.problem(at, f"found {shown(node)}, expected {_wanted(cls)}"))
    try:
        adapter: TypeAdapter[T] = _adapter(cls)  # type: ignore[arg-type]  # a class is hashable
        return adapter.validate_python(node.plain(), context=_TEXT)
    except ValidationError as failed:
        found = [problem for error in failed.errors() for problem in _problems(cls, node, at, error)]
    found.sort(key=lambda problem: (problem[0].source, problem[0].line, problem[0].column))
    raise SpecError([where.problem(path, text) for where, path, text in found])


def dump(obj: Any) -> str:
    """YAML of a spec, fields in order, quantities with units; reads back equal, the same bytes each time."""
    return str(yaml.dump(to_data(obj), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110))


def to_data(obj: Any) -> Any:
    """Plain data of a spec as YAML holds it: dict, list, text with units, numbers."""
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        given = {name: (getattr(obj, name), hint) for name, hint in _hints(type(obj)).items()}
        return {name: _to_data(value, hint) for name, (value, hint) in given.items() if not _left_out(value, hint)}
    return _to_data(obj, Any)


def fields(cls: type) -> list[Field]:
    """Every leaf of a spec in order, nested ones with dots: 'hbm.bandwidth'."""
    return list(_all_leaves(cls))


def schema(cls: type) -> dict[str, Any]:
    """JSON Schema of the YAML of a spec, for editors and validators."""
    found = {"$schema": "https://json-schema.org/draft/2020-12/schema", **_adapter(cls).json_schema()}
    _format_defaults(found)
    return found


def _format_defaults(found: Any) -> None:
    """Give the defaults of quantities their units, in place: pydantic writes the bare number."""
    if isinstance(found, dict):
        if "x-unit" in found and isinstance(found.get("default"), float):
            found["default"] = units.format(found["default"], found["x-unit"])
        for child in found.values():
            _format_defaults(child)


@cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


@cache
def _hints(cls: type) -> dict[str, Any]:
    """Field name -> annotation, in order."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _bare(hint: Any) -> tuple[Any, Quantity | Doc | None]:
    """An annotation without Annotated and `| None`, and the Quantity or Doc in it."""
    note: Quantity | Doc | None = None
    while True:
        if get_origin(hint) is Annotated:
            hint, *notes = get_args(hint)
            note = note or next((n for n in notes if isinstance(n, Quantity | Doc)), None)
        elif get_origin(hint) in (Union, types.UnionType) and len(rest := _not_none(hint)) == 1:
            hint = rest[0]
        else:
            return hint, note


def _not_none(hint: Any) -> list[Any]:
    return [h for h in get_args(hint) if h is not type(None)]


@cache
def _all_leaves(cls: type) -> tuple[Field, ...]:
    return tuple(_leaves(cls, ""))


def _leaves(cls: type, prefix: str) -> Iterator[Field]:
    for name, hint in _hints(cls).items():
        bare, note = _bare(hint)
        if dataclasses.is_dataclass(bare) and isinstance(bare, type):
            yield from _leaves(bare, f"{prefix}{name}.")
        else:
            unit = note.unit if isinstance(note, Quantity) else ""
            doc, descriptive = (note.doc, note.descriptive) if note else ("", False)
            yield Field(prefix + name, unit, doc, descriptive, bare)


def _left_out(value: Any, hint: Any) -> bool:
    return value is None and WHEN_GIVEN in getattr(hint, "__metadata__", ())


def _number(value: float, unit: str) -> str:
    return units.format(value, unit) if unit else f"{value:.12g}"


def _quantity_data(value: float | None, note: Quantity) -> Any:
    return units.format(value, note.unit) if value is not None and note.unit else value


def _to_data(value: Any, hint: Any) -> Any:
    bare, note = _bare(hint)
    if value is None:
        return None
    if isinstance(note, Quantity) and not isinstance(value, tuple | list | dict):
        return _quantity_data(value, note)
    if isinstance(value, tuple | list):
        return [_to_data(item, next(iter(get_args(bare)), Any)) for item in value]
    if isinstance(value, dict):
        return {name: _to_data(item, (*get_args(bare), Any, Any)[1]) for name, item in value.items()}
    return to_data(value) if dataclasses.is_dataclass(value) else value


def _problems(cls: type, root: Node, at: str, error: Any) -> Iterator[tuple[Node, str, str]]:
    """pydantic's error -> (where, path, text), the path being `at` and the names down to the field."""
    loc, kind = error["loc"], error["type"]
    node, path, hint = _follow(cls, root, at, loc)
    if kind in ("unexpected_keyword_argument", "extra_forbidden", "no_such_attribute"):
        _, _, owner = _follow(cls, root, at, loc[:-1])
        allowed = list(_hints(_bare(owner)[0]))
        yield node.at_key(), path, f"unknown field{nearest(str(loc[-1]), allowed)} (allowed: {', '.join(allowed)})"
    elif kind in ("missing", "missing_argument"):
        yield node, path, f"missing; expected {_wanted(hint)}"
    elif kind == "value_error":
        cause = error["ctx"]["error"]
        for below, text in cause.pairs if isinstance(cause, RuleError) else [("", str(cause))]:
            yield _place_of(node, below), ".".join(p for p in (path, below) if p), text
    elif kind != "too_short" or not node.value:  # pydantic also counts a list short of its invalid items
        yield node, path, f"found {shown(node)}, expected {_expected(error, hint, node)}"


def placed(node: Node, at: str, path: str, text: str) -> str:
    """One line for a problem of the field at `path` below `node`, placed at its name; `at` goes before the path."""
    return _place_of(node, path).problem(".".join(p for p in (at, path) if p), text)


def _place_of(node: Node, path: str) -> Node:
    place = _closest(node, path)
    return place.at_key() if path else place


def _follow(cls: Any, node: Node, at: str, loc: tuple[int | str, ...]) -> tuple[Node, str, Any]:
    """Node, dotted path and annotation at pydantic's location; a step that is no field (a union's tag) is skipped."""
    path, hint = [at] if at else [], cls
    for step in loc:
        bare, _ = _bare(hint)
        below: Any = None
        if isinstance(node.value, dict):
            below = node.value.get(str(step))
        elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
            below = node.value[step]
        known = dataclasses.is_dataclass(bare) and isinstance(bare, type) and step in _hints(bare)
        if below is None and not known:
            continue
        inner = (*get_args(bare), Any, Any)  # of tuple[int, ...] the first, of dict[str, int] the second
        hint = _hints(bare)[str(step)] if known else inner[0 if isinstance(step, int) else 1]
        path.append(str(step))
        node = below if below is not None else node
    return node, ".".join(path), hint


def _closest(node: Node, path: str) -> Node:
    """The deepest node that exists on the way down `path`; a field's name may hold dots itself, as in `sources`."""
    while path and isinstance(node.value, dict):
        step, _, rest = (path, "", "") if path in node.value else path.partition(".")
        if step not in node.value:
            break
        node, path = node.value[step], rest
    return node


def _expected(error: Any, hint: Any, node: Node) -> str:
    """What a value of a wrong type or choice should have been, with the nearest choice."""
    bare, _ = _bare(hint)
    if error["type"] == "quantity":
        return str(error["ctx"]["wanted"])
    if get_origin(bare) is Literal:
        return _wanted(hint) + nearest(node.text, map(str, get_args(bare)))
    if error["type"] in ("too_short", "too_long"):
        bound = error["ctx"].get("min_length", error["ctx"].get("max_length"))
        return f"at {'least' if error['type'] == 'too_short' else 'most'} {bound} in the list"
    plain = get_origin(bare) or bare
    known = plain in _NOUNS or (isinstance(plain, type) and dataclasses.is_dataclass(plain))
    wanted = _wanted(hint) if known else str(error["msg"]).lower()
    return wanted + (", in quotes" if bare is str and isinstance(node.value, int | float) else "")


_NOUNS = {
    str: "text", bool: "true or false", int: "a whole number", float: "a number", tuple: "a list", list: "a list",
    dict: "fields, one `name: value` a line",
}  # fmt: skip


def _wanted(hint: Any) -> str:
    """What a field's annotation accepts, in words."""
    bare, note = _bare(hint)
    if isinstance(note, Quantity) and bare in (int, float):
        return units.expected(note.unit) if note.unit else note.expected(bare is int)
    if get_origin(bare) is Literal:
        return f"one of {', '.join(map(str, get_args(bare)))}"
    if isinstance(bare, type) and dataclasses.is_dataclass(bare):
        return f"fields ({', '.join(_hints(bare))})"
    return _NOUNS.get(get_origin(bare) or bare, "a value")


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or 1.2 would read as something else; writes out every value, without aliases."""

    yaml_implicit_resolvers = {key: list(rules) for key, rules in yaml.SafeDumper.yaml_implicit_resolvers.items()}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """No anchors: equal values are written twice."""
        return True


for _name, (_pattern, _first) in CORE.items():
    _Dumper.add_implicit_resolver(TAG + _name, _pattern, _first)


def _text_node(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Quoted and escaped where it holds a Unicode line break, which PyYAML would write as it is and fold on reading."""
    rare = any(character in text for character in "\x85\u2028\u2029\ufeff")
    return dumper.represent_scalar(TAG + "str", text, style='"' if rare else None)


_Dumper.add_representer(str, _text_node)
