"""Folders of YAML specs, one named thing a file, and the rule that every number in them has a source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from hwspecs.errors import SpecError, nearest
from hwspecs.nodes import Node
from hwspecs.spec import RuleError, build, fields, read

T = TypeVar("T")
DATA = Path(__file__).parent / "data"


def names(folder: Path) -> list[str]:
    """The names in a folder: the stems of its YAML files, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def node(kind: str, folder: Path, name: str) -> Node:
    """The tree of the file called `name` in `folder`, or at `name` where that is a path to a YAML file.

    SpecError: unknown name (with the nearest), a file that cannot be read, a file whose `name` is not its own.
    """
    known = names(folder)
    if name in known:
        path = folder / f"{name}.yaml"
    elif name.endswith((".yaml", ".yml")):
        path = Path(name)
    else:
        raise SpecError(f"unknown {kind} '{name}'{nearest(name, known)} (allowed: {', '.join(known)})")
    tree = read(path)
    inside = tree.get("name")
    if inside and inside.value != path.stem:
        raise SpecError(inside.problem("name", f"found '{inside.text}', expected the file's own name '{path.stem}'"))
    return tree


def load(cls: type[T], kind: str, folder: Path, name: str) -> T:
    """The spec called `name`; SpecError as in `node` and `build`."""
    return build(cls, node(kind, folder, name))


def covers(key: str, path: str) -> bool:
    """Whether a source for `key` speaks of the field at `path`: the field itself or a group that holds it."""
    return path == key or path.startswith(f"{key}.")


def source_of(sources: Mapping[str, str], path: str) -> str:
    """The citation of a field: the most exact key that covers it, "" if there is none."""
    keys = [key for key in sources if covers(key, path)]
    return sources[max(keys, key=len)] if keys else ""


def check_sources(spec: Any) -> None:
    """RuleError for a number without a source and for a source that names no field; for `__post_init__`."""
    leaves = [field for field in fields(type(spec)) if field.path.split(".")[0] not in ("sources", "name")]
    numbers = [field.path for field in leaves if field.numeric]
    paths = {".".join(parts[:n]) for f in leaves for parts in [f.path.split(".")] for n in range(1, len(parts) + 1)}
    problems = [
        (f"sources.{key}", f"names no field{nearest(key, paths)} (allowed: {', '.join(sorted(paths))})")
        for key in spec.sources
        if key not in paths
    ]
    problems += [
        (f"sources.{key}", "empty; expected where the value comes from")
        for key, text in spec.sources.items()
        if not text.strip()
    ]
    problems += [
        (path, f"has no source; add it under sources, for example `{path}: data sheet, page 1`")
        for path in numbers
        if not source_of(spec.sources, path)
    ]
    if problems:
        raise RuleError(problems)
