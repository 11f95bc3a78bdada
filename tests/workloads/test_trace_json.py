"""docs/trace-json.md lists exactly the keys that `framecast trace --format json` prints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from framecast import commands

PAGE = Path(__file__).parents[2] / "docs/trace-json.md"
NAMED = {"calls": "<kind>", "flops_by_kind": "<kind>"}


def keys(data: Any, path: str = "") -> Iterator[str]:
    if isinstance(data, dict) and path != "request":
        place = NAMED.get(path.rpartition(".")[2])
        for key, value in data.items():
            yield from keys(value, f"{path}.{place or key}".lstrip("."))
    elif isinstance(data, list):
        for value in data:
            yield from keys(value, f"{path}[]")
    else:
        yield path


def test_trace_json_keys_are_those_of_the_docs() -> None:
    printed = CliRunner().invoke(commands(), ["trace", "stable-diffusion-1.5", "--format", "json"]).stdout
    documented = set(re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(encoding="utf-8"), flags=re.M))
    assert set(keys(json.loads(printed))) == documented
