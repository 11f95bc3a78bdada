"""YAML text -> a tree of nodes that remember where they were written; merging and overriding such trees.

Scalars follow the YAML 1.2 core schema (true/false, null, whole numbers, numbers, text), so that `no` is text.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from hwspecs.errors import SpecError, closest, offered

Value: TypeAlias = "bool | int | float | str | list[Node] | dict[str, Node] | None"

DEPTH = 60  # nesting of a file; deeper is refused before it can exhaust the stack
COUNT = 20_000  # nodes of a file with its aliases written out
LONGEST = 80  # characters of a value that a message shows
# A list and its unit at the end of a line or of a text: '[40, 64] MiB', behind a field's name or nothing.
UNIT_OF_ALL = re.compile(
    r"^((?:[^\n#'\"{[]*:[ ]+)?)(\[[^][\n{}'\"#]+\][ ]*[A-Za-z][\w/]*)([ ]*(?:[ ]#.*)?)$", re.MULTILINE
)


@dataclass(frozen=True)
class Node:
    """A value (scalar, list or mapping of nodes) with its origin; lines count from 1, 0 is none."""

    value: Value
    source: str  # file as it was named, or "--set device.hbm.bandwidth"
    line: int = 0
    column: int = 0
    text: str = ""  # a scalar as it was written
    key: tuple[int, int] | None = field(default=None, compare=False)  # line and column of the field's name
    count: int = field(default=1, compare=False)  # nodes in it, itself included

    @property
    def where(self) -> str:
        """'file:line:column', or the source alone where a line means nothing."""
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source

    def get(self, path: str) -> Node | None:
        """The node at a dotted path below this one, or None."""
        found: Node | None = self
        for step in path.split(".") if path else ():
            found = found.value.get(step) if found and isinstance(found.value, dict) else None
        return found

    def at_key(self) -> Node:
        """The same node, placed at its field's name (where an unknown field is reported)."""
        return replace(self, line=self.key[0], column=self.key[1]) if self.key else self

    def plain(self) -> Any:
        """The value without origins: None, bool, int, float, str, list, dict."""
        if isinstance(self.value, dict):
            return {name: node.plain() for name, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value

    def problem(self, path: str, text: str) -> str:
        """One line, `file:line:column: path: text`."""
        return f"{self.where}: {path}: {text}" if path else f"{self.where}: {text}"


def read(path: Path, problems: list[str] | None = None) -> Node:
    """The mapping in a YAML file. SpecError lists what is wrong: missing, not UTF-8, syntax, duplicate keys.

    With `problems`, what does not hide the rest of the file (duplicate keys, impossible scalars) is added there instead.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        stems = {file.stem: file.name for file in path.parent.glob("*.y*ml")}
        beside = [stems[stem] for stem in closest(path.stem, stems)]
        raise SpecError(f"{path}: no such file{offered(beside)}") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()})") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SpecError(f"{path}:{line}:1: not UTF-8 text; save the file as UTF-8") from None
    return mapping(text, str(path), problems)


def mapping(text: str, source: str, problems: list[str] | None = None) -> Node:
    """The mapping written in YAML text; SpecError and `problems` as in `read`."""
    node = parse(text, source, problems)
    if node.value is None:
        raise SpecError(f"{source}: empty; expected fields, one `name: value` a line")
    if not isinstance(node.value, dict):
        raise SpecError(f"{node.where}: expected fields, one `name: value` a line")
    return node


def parse(text: str, source: str, problems: list[str] | None = None) -> Node:
    """Any one YAML value with origins; empty text is null. SpecError and `problems` as in `read`."""
    node, found = _parsed(text, source)
    if found and problems is None:
        raise SpecError(found)
    if problems is not None:
        problems += found
    return node


@lru_cache(maxsize=256)
def _parsed(text: str, source: str) -> tuple[Node, tuple[str, ...]]:
    """The value and its problems; kept, since a sweep reads the same files for every point."""
    try:
        _check_depth(text, source)
        tree = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        if (quoted := _quoted(text)) != text:  # what is wrong with it may be no more than that
            with contextlib.suppress(SpecError):
                return _parsed(quoted, source)
        raise SpecError(_syntax(error, source, text)) from None
    if tree is None:
        return Node(None, source), ()
    found: list[str] = []
    node = _convert(tree, "", source, found, {})
    if node.count > COUNT:
        raise SpecError([*found, f"{source}: more than {COUNT} values; are aliases nested?"])
    return node, tuple(found)


def wrap(data: Any, source: str) -> Node:
    """Plain data (dict, list, scalars) as nodes, all from one source without lines."""
    if isinstance(data, dict):
        return Node({str(name): wrap(value, source) for name, value in data.items()}, source)
    if isinstance(data, list | tuple):
        return Node([wrap(value, source) for value in data], source)
    return Node(data, source, text=_text(data))


def merge(base: Node, over: Node) -> Node:
    """`over` laid on `base`: mappings field by field, anything else replaced; every value keeps its origin.

    A mapping of both is placed where `over` wrote it, or stays where `base` did if `over` has no lines (`--set`).
    """
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        return over
    merged = dict(base.value)
    for name, node in over.value.items():
        merged[name] = merge(merged[name], node) if name in merged else node
    return replace(over if over.line else base, value=merged)


def set_path(node: Node, path: str, text: str) -> Node:
    """`node` with the field at a dotted path set to `text`, read as YAML ('4 TB/s', '[1, 2]'); else SpecError."""
    source = f"--set {path}"
    steps = path.split(".")
    if not all(steps):
        raise SpecError(f"{source}: expected a field's path, for example 'device.hbm.bandwidth'")
    for depth in range(len(steps)):
        above = node.get(".".join(steps[:depth]))
        if above and not isinstance(above.value, dict):
            raise SpecError(f"{source}: '{'.'.join(steps[:depth])}' is {shown(above)}, which has no fields")
    try:
        new = _at_source(parse(text, source), source)
    except SpecError as error:
        place = rf"^{re.escape(source)}:\d+:\d+:"  # an option has no lines
        raise SpecError(re.sub(place, lambda _: f"{source}:", line) for line in error.problems) from None
    for step in reversed(steps):
        new = Node({step: new}, source)
    return merge(node, new)


def shown(node: Node) -> str:
    """A value as messages show it: quoted as written, or 'a list', 'fields'."""
    if isinstance(node.value, dict):
        return f"fields ({', '.join(node.value)})" if node.value else "fields"
    if isinstance(node.value, list):
        return f"a list of {len(node.value)}"
    if node.value is None and node.text in ("", "null", "~"):
        return "nothing"
    text = node.text if node.text.isprintable() else repr(node.text)[1:-1]  # a message is one line
    return f"'{text}'" if len(text) <= LONGEST else f"'{text[:LONGEST]}...'"


def _at_source(node: Node, source: str) -> Node:
    """The same value without lines: a command-line option has none."""
    value = node.value
    if isinstance(value, dict):
        value = {name: _at_source(child, source) for name, child in value.items()}
    elif isinstance(value, list):
        value = [_at_source(child, source) for child in value]
    return Node(value, source, text=node.text)


def _text(value: object) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Composes only; resolves plain scalars by the core schema of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own class attribute)


TAG = "tag:yaml.org,2002:"
CORE = {
    "null": (re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    "int": (re.compile(r"[-+]?[0-9]+$"), list("-+0123456789")),
    "float": (re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"), list("-+.0123456789")),
}
for _name, (_pattern, _first) in CORE.items():
    _Loader.add_implicit_resolver(TAG + _name, _pattern, _first)


def _convert(tree: yaml.Node, path: str, source: str, problems: list[str], done: dict[int, Node | None]) -> Node:
    """PyYAML's node -> ours. `done` holds nodes by identity, None while one is open, to share and to refuse aliases."""
    line, column = tree.start_mark.line + 1, tree.start_mark.column + 1
    if id(tree) in done:
        if (known := done[id(tree)]) is not None:
            return known
        problems.append(f"{source}:{line}:{column}: an alias (*name) stands inside the value that it names")
        return Node(None, source, line, column)
    done[id(tree)] = None
    if isinstance(tree, yaml.MappingNode):
        fields = _fields(tree, path, source, problems, done)
        node = Node(fields, source, line, column, count=1 + sum(n.count for n in fields.values()))
    elif isinstance(tree, yaml.SequenceNode):
        items = [_convert(item, f"{path}.{i}", source, problems, done) for i, item in enumerate(tree.value)]
        node = Node(items, source, line, column, count=1 + sum(n.count for n in items))
    else:
        assert isinstance(tree, yaml.ScalarNode)
        node = Node(_scalar(tree, f"{source}:{line}:{column}", problems), source, line, column, text=tree.value)
    done[id(tree)] = node
    return node


def _fields(
    tree: yaml.MappingNode, path: str, source: str, problems: list[str], done: dict[int, Node | None]
) -> dict[str, Node]:
    fields: dict[str, Node] = {}
    for key, value in tree.value:
        below = f"{path}.{key.value}".lstrip(".")
        place = (key.start_mark.line + 1, key.start_mark.column + 1)
        where = f"{source}:{place[0]}:{place[1]}"
        if not isinstance(key, yaml.ScalarNode):
            problems.append(f"{where}: expected a field's name, found a list or a mapping")
        elif key.value in fields:
            first = fields[key.value].key or (0, 0)
            problems.append(f"{where}: {below}: duplicate field; it is already set in line {first[0]}")
        elif ":" in key.value and _is_left_out(value):  # `{a:b}` is a name without a value, which would be lost
            before, _, after = key.value.partition(":")
            wanted = f"expected a space after the colon; did you mean '{before}: {after}'?"
            problems.append(f"{where}: {f'{path}: '.lstrip(': ')}found '{key.value}', {wanted}")
        else:
            fields[key.value] = replace(_convert(value, below, source, problems, done), key=place)
    return fields


def _is_left_out(tree: yaml.Node) -> bool:
    """A value of which nothing is written."""
    return isinstance(tree, yaml.ScalarNode) and tree.value == "" and tree.start_mark.index == tree.end_mark.index


def _scalar(tree: yaml.ScalarNode, where: str, problems: list[str]) -> bool | int | float | str | None:
    kind = tree.tag.removeprefix(TAG)
    try:
        if kind in ("null", "bool"):
            return None if kind == "null" else {"true": True, "false": False}[tree.value.lower()]
        if kind in ("int", "float"):
            return int(tree.value) if kind == "int" else float(tree.value)
    except (ValueError, KeyError):
        wanted = "true or false" if kind == "bool" else "a number"
        problems.append(f"{where}: found '{tree.value[:40]}', expected {wanted}")
        return None
    if kind != "str":
        problems.append(f"{where}: unknown tag '{tree.tag}'; write the value without it")
    return str(tree.value)


def _quoted(text: str) -> str:
    """With every `[40, 64] MiB` in quotes, which YAML has no other spelling for: a list of numbers that share a unit."""
    return UNIT_OF_ALL.sub(r"\1'\2'\3", text)


def _check_depth(text: str, source: str) -> None:
    """SpecError for nesting that would exhaust the stack of the composer; events come without recursion."""
    if max(text.count("["), text.count("{"), text.count("- "), text.count(":"), text.count("?")) <= DEPTH:
        return
    depth = 0
    for event in _events(text):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH:
            raise SpecError(f"{source}:{_place(event.start_mark)}: nested more than {DEPTH} levels deep")


def _events(text: str) -> Iterator[yaml.Event]:
    yield from yaml.parse(text, Loader=_Loader)


def _syntax(error: yaml.YAMLError, source: str, text: str) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    rest = text.split("\n")[mark.line][mark.column :] if mark and mark.line <= text.count("\n") else ""
    if rest.startswith("\t"):
        return f"{source}:{_place(mark)}: a tab; indent with spaces"
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).partition("\n")[0]
    if "another document" in str(what):
        return (
            f"{source}:{_place(mark)}: a second document begins here; expected one a file, without a line '---' inside"
        )
    context = getattr(error, "context", None)
    place = f"{source}:{_place(mark)}" if mark else source
    return f"{place}: YAML syntax: {what}" + (f" ({context})" if context else "")


def _place(mark: Any) -> str:
    return f"{mark.line + 1}:{mark.column + 1}"
