"""What searches for templates did not find, and why: it is not searched for again by the same code. For maintainers.

One JSON file beside the folder of the templates, an entry a key and region: the first words of the key, the digest of the code
that a capture of it rests on, and the reason. Another digest, or `--more`, has it searched for again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workloads import templates


def path() -> Path:
    """The file, there or not."""
    return templates.FOLDER.with_name("unfound.json")


def name_of(key: str, region: str = "") -> str:
    """The name of an entry: a key's digest, and the arguments of its region where it is of one alone."""
    return " ".join(part for part in (templates.digest(key), region) if part)


def reason(name: str, code: str) -> str | None:
    """Why nothing was found for an entry by code of that digest; None where it was not searched for."""
    entry = _entries().get(name)
    return str(entry["reason"]) if entry is not None and entry["code"] == code else None


def record(name: str, key: str, code: str, why: str) -> None:
    """Write down that a search found nothing."""
    _write({**_entries(), name: {"code": code, "key": key[:100], "reason": why}})


def forget(name: str) -> None:
    """Take an entry out, of what there is now."""
    entries = _entries()
    if entries.pop(name, None) is not None:
        _write(entries)


def _entries() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path().read_text()) if path().exists() else {}
    return found


def _write(entries: dict[str, Any]) -> None:
    if entries:
        path().write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n")
    else:
        path().unlink(missing_ok=True)
