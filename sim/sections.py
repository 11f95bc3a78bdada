"""`--set` below a section that explores (`sweep.device.hbm.bandwidth=...`): its fields are named by dotted paths.

A field that the section has, written flat or as fields below fields, is replaced where it is; a new one that is a field
of the scenario is added under its dotted path; `null` takes a field out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hwspecs import spec
from hwspecs.errors import SpecError, nearest
from hwspecs.nodes import Node

OF_SCENARIO = ("request", "device", "software")  # parts whose fields a section names by their dotted path


def set_below(root: Node, field: str, text: str) -> Node:
    """The scenario's nodes with one field of a section set. SpecError for a value that cannot be, or `null` of nothing."""
    section, _, path = field.partition(".")
    node = root.get(section)
    if not path or node is None or not isinstance(node.value, dict):
        return spec.set_path(root, field, text)
    new = spec.set_path(spec.wrap({}, f"--set {field}"), field, text).get(field)
    assert new is not None
    changed = _replaced(node, path, None if new.value is None else new)
    if changed is None and new.value is None:
        raise SpecError(f"--set {field}: nothing to take out{nearest(path, [*_paths(node)])}")
    if changed is None and path.split(".")[0] in OF_SCENARIO:
        changed = replace(node, value={**node.value, path: new})
    if changed is None and _inner(node, path):
        option = path.split(".")[0]
        inner = node.value[option]
        assert isinstance(inner.value, dict)
        within = replace(inner, value={**inner.value, path.removeprefix(f"{option}."): new})
        changed = replace(node, value={**node.value, option: within})
    if changed is None:
        return spec.set_path(root, field, text)
    assert isinstance(root.value, dict)
    return replace(root, value={**root.value, section: changed})


def _replaced(node: Node, path: str, new: Node | None) -> Node | None:
    """The mapping with the field at a dotted path replaced (None: taken out) wherever it is; None where it has no such field."""
    assert isinstance(node.value, dict)
    for name, child in node.value.items():
        if name == path:
            rest = {n: c for n, c in node.value.items() if n != name or new is not None}
            return replace(node, value=rest if new is None else {**rest, name: spec.merge(child, new)})
        if path.startswith(f"{name}.") and isinstance(child.value, dict):
            inner = _replaced(child, path.removeprefix(f"{name}."), new)
            if inner is not None:
                return replace(node, value={**node.value, name: inner})
    return None


def _inner(node: Node, path: str) -> bool:
    """Whether a path is of a scenario's field inside an option of the section that holds some: resources.device.sm_count."""
    assert isinstance(node.value, dict)
    option, _, below = path.partition(".")
    held = node.value.get(option)
    return held is not None and isinstance(held.value, dict) and below.split(".")[0] in OF_SCENARIO


def _paths(node: Node, prefix: str = "") -> Iterator[str]:
    """Dotted paths of the fields of a section."""
    if isinstance(node.value, dict):
        for name, child in node.value.items():
            yield f"{prefix}{name}"
            yield from _paths(child, f"{prefix}{name}.")
