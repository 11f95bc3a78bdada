"""Folders of YAML specs, one named thing a file, and the rule that every value in them has a source."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from hwspecs import spec
from hwspecs.errors import SpecError, nearest
from hwspecs.nodes import Node
from hwspecs.spec import RuleError, fields, read

T = TypeVar("T")
DATA = Path(__file__).parent / "data"


def names(folder: Path) -> list[str]:
    """The names in a folder: the stems of its YAML files, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def file(kind: str, folder: Path, name: str) -> Path:
    """The file called `name` in `folder`, or at `name` where that is a path to a YAML file. SpecError: unknown name."""
    known = names(folder)
    if name in known:
        return folder / f"{name}.yaml"
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    beside = f"; write '{name}.yaml' to read that file" if Path(f"{name}.yaml").is_file() else nearest(name, known)
    raise SpecError(f"unknown {kind} '{name}'{beside} (allowed: {', '.join(known)})")


def node(kind: str, folder: Path, name: str, problems: list[str] | None = None) -> Node:
    """The tree of that file.

    SpecError: unknown name (with the nearest), a file that cannot be read, a file of ours whose `name` is not its own;
    `problems` as in `nodes.read`.
    """
    path = file(kind, folder, name)
    tree = read(path, problems)
    inside = tree.get("name")
    if inside and path.parent == folder and inside.value != path.stem:
        raise SpecError(inside.problem("name", f"found '{inside.text}', expected the file's own name '{path.stem}'"))
    return tree


def load(cls: type[T], kind: str, folder: Path, name: str) -> T:
    """The spec called `name`; SpecError as in `node` and `build`, all problems of the file at once."""
    problems: list[str] = []
    tree = node(kind, folder, name, problems)
    try:
        made = build(cls, tree)
    except SpecError as error:
        raise SpecError(in_order([*problems, *error.problems])) from None
    if problems:
        raise SpecError(problems)
    return made


def build(cls: type[T], tree: Node, *, at: str = "") -> T:
    """`spec.build`; where a field is wrong, the sources are checked all the same, which `__post_init__` then cannot do."""
    try:
        return spec.build(cls, tree, at=at)
    except SpecError as error:
        raise SpecError(in_order(dict.fromkeys([*error.problems, *_of_sources(cls, tree, at)]))) from None


def in_order(problems: Iterable[str]) -> list[str]:
    """Problems in the order of their places: file, line, column."""
    return sorted(problems, key=_place)


def _place(problem: str) -> tuple[str, int, int]:
    match = re.match(r"(.*?):(\d+):(\d+): ", problem)
    return (match[1], int(match[2]), int(match[3])) if match else (problem, 0, 0)


def _of_sources(cls: type[Any], tree: Node, at: str) -> list[str]:
    """Problems of the `sources` of a tree whose other fields are wrong; none where they are no mapping of texts."""
    sources = tree.get("sources")
    if sources is None or not isinstance(sources.value, dict):
        return []
    texts = {key: child.value for key, child in sources.value.items() if isinstance(child.value, str)}
    found = [
        (path, text) for path, text in source_problems(cls, texts) if path.startswith("sources.") or _says(tree, path)
    ]
    return [spec.placed(tree, at, path, text) for path, text in found]


def _says(tree: Node, path: str) -> bool:
    """Whether a tree gives that field, and not as a switch that is off."""
    node = tree.get(path)
    return node is not None and node.value is not False


def covers(key: str, path: str) -> bool:
    """Whether a source for `key` speaks of the field at `path`: the field itself or a group that holds it."""
    return path == key or path.startswith(f"{key}.")


def source_of(sources: Mapping[str, str], path: str) -> str:
    """The citation of a field: the most exact key that covers it, "" if there is none."""
    keys = [key for key in sources if covers(key, path)]
    return sources[max(keys, key=len)] if keys else ""


def check_sources(made: Any, absent: tuple[str, ...] = ()) -> None:
    """RuleError for a value without a source and for a source that names no field; for `__post_init__`.

    absent: parts that this spec leaves out, whose values need no source, and fields at a default that the code has a source for.
    """
    problems = [p for p in source_problems(type(made), made.sources) if not any(covers(part, p[0]) for part in absent)]
    if problems:
        raise RuleError(problems)


def source_problems(cls: type[Any], sources: Mapping[str, str]) -> list[tuple[str, str]]:
    """(path, text) of every value of a spec without a source, and of every source that is empty or names no field.

    Values are numbers, and switches and choices in a group; names at the top of a file need no source, nor do groups that a
    class lists as `chosen`, which are a user's to choose and no data.
    """
    chosen: tuple[str, ...] = getattr(cls, "chosen", ())
    leaves = [field for field in fields(cls) if field.path.split(".")[0] != "sources"]
    values = [f.path for f in leaves if f.numeric or ("." in f.path and f.path.partition(".")[0] not in chosen)]
    paths = {".".join(parts[:n]) for f in leaves for parts in [f.path.split(".")] for n in range(1, len(parts) + 1)}
    problems = [
        (f"sources.{key}", f"names no field{nearest(key, paths) or '; allowed: ' + ', '.join(sorted(paths))}")
        for key in sources
        if key not in paths
    ]
    problems += [
        (f"sources.{key}", "empty; expected where the value comes from")
        for key, text in sources.items()
        if not text.strip()
    ]
    return problems + [
        (path, f"has no source; add it under sources, for example `{path}: data sheet, page 1`")
        for path in values
        if not source_of(sources, path)
    ]
