"""JSON Schema of the YAML files, for editors: a scenario with its sections, a device, a software, a capture.

It is made from the annotations that the loader reads. It lives here because a scenario's sections are known here.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from explore import objectives, pods_spec, project_spec, serve_spec, sweep
from explore.space import NAMES, varies
from hwspecs import spec
from hwspecs.device import Device, device_names
from hwspecs.software import Software, software_names
from sim.scenario import LEVELS
from workloads.capture_file import CaptureFile
from workloads.model import models

KINDS = ("scenario", "device", "software", "capture")
DRAFT = "https://json-schema.org/draft/2020-12/schema"
VALUES = "values, or a range: [512, 768], '64..256 step 4', '1..8 TB/s log, 8 points'"
Schema = dict[str, Any]


def schema(kind: str) -> Schema:
    """The JSON Schema (draft 2020-12) of a kind of file. ValueError for a kind that there is none of."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind '{kind}' (known: {', '.join(KINDS)})")
    cls = {"device": Device, "software": Software, "capture": CaptureFile}.get(kind)
    return {"$schema": DRAFT, "title": f"framecast {kind}", **(_plain(cls) if cls else _scenario())}


def _scenario() -> Schema:
    known = models()
    requests = [
        {"if": {"properties": {"model": {"const": name}}, "required": ["model"]},
         "then": {"properties": {"request": _plain(m.request)}}}
        for name, m in known.items()
    ]  # fmt: skip
    return {
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "shown in reports; the file's name where it is left out"},
            "model": {
                "anyOf": [{"enum": list(known)}, {"type": "string", "pattern": r"\.(ya?ml|trace)$"}],
                "description": "id of a model (`framecast models`), a capture file or a stored trace",
            },
            "request": {"type": "object", "description": "what is asked of the model"},
            "device": _named(
                Device, device_names(), "id of a device (`framecast hardware list`), a file, or changed fields"
            ),
            "software": _named(Software, software_names(), "id of a software, a file, or changed fields"),
            "level": {"enum": list(LEVELS), "default": "calibrated", "description": "cost model"},
            "sweep": _varied(_plain(sweep.Options)["properties"]),
            "search": _varied(_plain(objectives.Options)["properties"]),
            "project": _sizes(_plain(project_spec.Project)),
            "pods": _plain(pods_spec.Pods),
            "serve": _plain(serve_spec.Serve),
        },
        "required": ["model", "device"],
        "additionalProperties": False,
        "allOf": requests,
    }


def _named(cls: type, names: list[str], about: str) -> Schema:
    """An id, the path of a file, all fields, or some fields over a base."""
    whole = _plain(cls)
    some = _optional(whole)
    some["properties"] = {
        "base": {"type": "string", "examples": names, "description": "what the fields below change"}
    } | some["properties"]
    some["required"] = ["base"]
    name = {"anyOf": [{"enum": names}, {"type": "string", "pattern": r"\.ya?ml$"}]}
    return {"anyOf": [name, some, whole], "description": about}


def _varied(options: Mapping[str, Any]) -> Schema:
    """A section whose keys are paths of fields, beside some of its own."""
    parts: dict[str, list[type]] = {
        "request": [m.request for m in models().values()],
        "device": [Device],
        "software": [Software],
    }
    leaves = {
        f"{part}.{f.path}": {"description": f"{f.doc}; {VALUES}"} for part, types in parts.items() for cls in types
        for f in spec.fields(cls) if not f.descriptive or varies(f"{part}.{f.path}")
    }  # fmt: skip
    names = {name: {"description": VALUES} for name in (*NAMES, *parts)}
    return {
        "type": "object",
        "properties": {**options, **names, **leaves},
        "patternProperties": {r"^request\.\w+$": {"description": f"a dimension of a capture file; {VALUES}"}},
        "additionalProperties": False,
    }


def _sizes(project: Schema) -> Schema:
    """Sizes may be written as one number, the side of a square, which the annotation's own schema does not know."""
    sizes = project["properties"]["sizes"]
    sizes["items"] = {"anyOf": [{"type": "integer", "minimum": 1}, sizes["items"]]}
    return project


def _plain(cls: type) -> Schema:
    """The schema of one spec with every reference written out."""
    found = spec.schema(cls)
    inside: Schema = _inlined(found, found.pop("$defs", {}))
    inside.pop("$schema", None)
    return inside


def _inlined(part: Any, defs: Mapping[str, Any]) -> Any:
    if isinstance(part, list):
        return [_inlined(item, defs) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        rest = {key: value for key, value in part.items() if key != "$ref"}
        return _inlined(defs[part["$ref"].rpartition("/")[2]], defs) | _inlined(rest, defs)
    return {key: _inlined(value, defs) for key, value in part.items()}


def _optional(whole: Schema) -> Schema:
    """The same with no field required, at any depth, and no defaults, which the base has."""
    some = copy.deepcopy(whole)

    def loosen(part: Any) -> None:
        for child in part if isinstance(part, list) else part.values() if isinstance(part, dict) else ():
            loosen(child)
        if isinstance(part, dict):
            if isinstance(part.get("required"), list):
                del part["required"]
            if "type" in part or "enum" in part:
                part.pop("default", None)

    loosen(some)
    return some
