"""The command that finds, proves and writes templates, run from end to end on a small model."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.workloads import small
from workloads import regenerate, regions, samples, search, templates
from workloads.digest import code_of
from workloads.join import join
from workloads.model import models
from workloads.search import Contradicted
from workloads.templates import NONE, stage_trace
from workloads.trace import same

FUNCTION = "tests.workloads.small.net"
FILE = f"{FUNCTION}.json.xz"
OTHER = "0" * 16  # the digest of another key, or of other code


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bytes]:
    """What the command wrote where there was nothing."""
    folder = tmp_path_factory.mktemp("found") / "traces"
    with pytest.MonkeyPatch.context() as patch:
        _only_small(patch, folder)
        assert regenerate.main(["small"]) == 0
    assert [p.name for p in folder.iterdir()] == [FILE]
    yield (folder / FILE).read_bytes()
    samples.forget()


@pytest.fixture
def path(found: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that was written, where the command finds it."""
    folder = tmp_path / "traces"
    folder.mkdir()
    _only_small(monkeypatch, folder)
    (folder / FILE).write_bytes(found)
    templates.families.cache_clear()
    yield folder / FILE
    templates.families.cache_clear()


def _only_small(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setitem(models(), "small", small.MODEL)
    patch.setattr(regenerate, "models", lambda: {"small": small.MODEL})
    patch.setattr(templates, "FOLDER", folder)
    patch.setenv("FRAMECAST_CACHE", str(folder.with_name("cache")))


def _changed(path: Path, **entries: dict[str, Any]) -> None:
    """Write the file with other entries, or more."""
    families = templates.load(path)["families"]
    templates.write(path, {"function": FUNCTION, "families": {**families, **entries}})


def _own(path: Path, dtype: str) -> tuple[str, dict[str, Any]]:
    families = templates.load(path)["families"]
    return next((name, entry) for name, entry in families.items() if f"'{dtype}'" in entry["key"])


def test_the_command_writes_what_captures_give(path: Path) -> None:
    structures = {len(entry.get("templates", ())) for entry in templates.load(path)["families"].values()}
    assert structures >= {0, 3}, "bf16 is the like of fp16; a copy is made, of text or tokens in runs, or none"
    asked: tuple[dict[str, Any], ...] = (
        {"length": 77, "batch": 9, "dtype": "bf16"},
        {"length": 1000, "guidance": False, "dtype": "fp32"},
        {"length": 1, "batch": 2},
    )
    for fields in asked:
        request = small.Request(**fields)
        (sample,) = samples.of_request(small.MODEL, request)
        trace = stage_trace(replace(sample.stage, name=""), None)
        assert trace is not None
        assert same(join("", {}, [trace]), samples.captured(sample))


def test_what_holds_stays_as_it_is(path: Path, found: bytes) -> None:
    assert regenerate.main(["small"]) == 0
    assert path.read_bytes() == found


def test_what_other_code_made_is_proven_and_what_is_not_drawn_goes(path: Path, found: bytes, capsys: Any) -> None:
    name, entry = _own(path, "fp32")
    undrawn = {**entry, "key": "another"}
    _changed(path, **{name: {**entry, "code": OTHER}, OTHER: {**undrawn, "code": OTHER}, "1" * 16: undrawn})
    assert regenerate.main(["small"]) == 0
    assert "1 of 5 keys were not proven, and taken out" in capsys.readouterr().out
    assert set(templates.load(path)["families"]) == {*_names(found, path), "1" * 16}
    assert _own(path, "fp32")[1]["code"] == code_of(FUNCTION)


def _names(found: bytes, path: Path) -> set[str]:
    again = path.with_name("again.json.xz")
    again.write_bytes(found)
    return set(templates.load(again)["families"])


def test_what_a_capture_contradicts_is_found_anew(path: Path, found: bytes, capsys: Any) -> None:
    name, entry = _own(path, "fp16")
    _changed(path, **{name: {**entry, "tree": 0}})  # one structure for all
    assert regenerate.main(["small"]) == 0
    assert "found anew: the template is not the capture at" in capsys.readouterr().out
    assert path.read_bytes() == found


def test_what_covers_nothing_that_is_drawn_is_compared_elsewhere(path: Path, capsys: Any) -> None:
    """With a usual request; else an entry would be said to be of today's code though no capture was compared."""
    name, entry = _own(path, "fp32")
    key, group = _drawn_of("fp32")
    only = [
        0,
        NONE,
        0,
        7,
        8,
        NONE,
        [0, NONE, 0, 8, 9, entry["tree"], NONE],
    ]  # four images with guidance: a usual request
    families = templates.load(path)["families"]
    group = [s for s in group if s.signature.numbers[0] != 8]
    held = regenerate._held(key, group, {**families, name: {**entry, "tree": only}})
    assert held is not None
    assert "0 of " in capsys.readouterr().out
    none = [0, NONE, 0, 10**6, 10**6 + 1, NONE, 0]
    assert regenerate._held(key, group, {**families, name: {**entry, "tree": none}}) is None
    assert "found anew: no capture could be compared" in capsys.readouterr().out


def _drawn_of(dtype: str) -> tuple[str, list[samples.Sample]]:
    drawn = samples.pool([small.MODEL], random.Random(0), large=False)[FUNCTION]
    return next((key, group) for key, group in drawn.items() if f"'{dtype}'" in key)


def test_a_region_is_kept_only_if_a_capture_was_compared(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that takes none of the sizes says nothing of what is stored."""
    name, entry = _own(path, "fp16")
    _changed(path, **{name: {**entry, "code": OTHER}})
    key, group = _drawn_of("fp16")
    (asked,) = (r for r in regions.regions_of(small.MODEL) if not r.stage)
    monkeypatch.setattr(search, "capture", lambda *_: None)
    assert not regions._kept_key(small.MODEL, key, group, asked)
    assert _own(path, "fp16")[1]["code"] == OTHER
    monkeypatch.undo()
    _only_small(monkeypatch, path.parent)
    assert regions._kept_key(small.MODEL, key, group, asked)
    assert _own(path, "fp16")[1]["code"] == code_of(FUNCTION)


def test_more_is_looked_for_only_where_asked_and_less_is_not_taken(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, entry = _own(path, "fp32")
    _changed(path, **{name: {**entry, "tree": [1, NONE, 0, 100, 101, entry["tree"], NONE]}})
    short = path.read_bytes()
    assert regenerate.main(["small"]) == 0
    assert path.read_bytes() == short
    assert regenerate.main(["small", "--more"]) == 0
    families = templates.load(path)["families"]
    assert templates.family(families[name], families).at((3, 500, small.WIDTH)) is not None
    more = path.read_bytes()
    monkeypatch.setattr(regenerate, "MOST", 2.0)  # nothing is enough
    monkeypatch.setattr(regenerate, "_found", lambda *_: {**entry, "tree": NONE})
    assert regenerate.main(["small", "--more"]) == 0
    assert path.read_bytes() == more


def test_what_is_not_found_is_searched_for_once(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise Contradicted("no end in 400 captures (small)")

    name, _ = _own(path, "fp32")
    families = templates.load(path)["families"]
    templates.write(path, {"function": FUNCTION, "families": {n: e for n, e in families.items() if n != name}})
    for name_ in ("find_family", "find_kin"):
        monkeypatch.setattr(regenerate, name_, none)
    monkeypatch.setattr(regions, "extended", lambda *_: True)
    assert regenerate.main(["small"]) == 1
    assert "no end in 400 captures" in capsys.readouterr().err
    assert regenerate.main(["small"]) == 0
    assert "none, as is known: no end in 400 captures (small)" in capsys.readouterr().out
    assert name not in templates.load(path)["families"]


@pytest.mark.usefixtures("path")
def test_a_search_that_was_stopped_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def stop(*_: Any) -> bool:
        raise KeyboardInterrupt

    extended = regions.extended
    monkeypatch.setattr(regions, "extended", stop)
    with pytest.raises(KeyboardInterrupt):
        regenerate.main(["small"])
    assert "4 parts of 1 functions, about " in capsys.readouterr().out
    monkeypatch.setattr(regions, "extended", extended)
    assert regenerate.main(["small"]) == 0
    said = capsys.readouterr().out
    assert "3 of 4 parts were done before" in said
    assert "[4 of 4] small batch=1 guidance=false" in said
