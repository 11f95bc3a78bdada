"""A long command in parts: lines, estimates, and what a kill leaves to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from workloads import rounds, templates
from workloads.rounds import Part

FUNCTION, OTHER = "tests.workloads.small.net", "tests.workloads.small.stages"


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMECAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(templates, "FOLDER", tmp_path / "traces")


def _parts(did: list[str], killed: str = "", bad: str = "") -> list[Part]:
    """Three parts; each writes the file of its function, but the one at which the command is killed."""

    def do(name: str, function: str) -> bool:
        did.append(name)
        if name == killed:
            raise KeyboardInterrupt
        templates.write(templates.file_of(function), {"function": function, "families": {"of": name}})
        return name != bad

    named = (("a", FUNCTION), ("b", FUNCTION), ("c", OTHER))
    return [Part(name, (f,), 10, lambda name=name, f=f: do(name, f)) for name, f in named]  # type: ignore[misc]


def test_a_line_a_part_with_what_is_left() -> None:
    lines: list[str] = []
    assert rounds.run(_parts([]), say=lines.append)
    assert [line.partition(":")[0] for line in lines] == ["[1 of 3] a", "[2 of 3] b", "[3 of 3] c"]
    assert lines[0].endswith(" left")
    assert lines[2].endswith("so far, done")
    assert not rounds.journal().exists()


def test_after_a_kill_only_what_was_left_is_done() -> None:
    did: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        rounds.run(_parts(did, killed="c"))
    again: list[str] = []
    lines: list[str] = []
    assert rounds.run(_parts(again), say=lines.append)
    assert (did, again) == (["a", "b", "c"], ["c"])
    assert lines[0] == f"2 of 3 parts were done before ({rounds.journal()})"
    assert rounds.run(_parts(again), say=lines.append), "a command that came to its end starts anew"
    assert again == ["c", "a", "b", "c"]


def test_what_was_not_well_before_the_kill_is_not_forgotten() -> None:
    with pytest.raises(KeyboardInterrupt):
        rounds.run(_parts([], killed="c", bad="a"))
    assert not rounds.run(_parts([]))


def test_what_another_wrote_since_is_done_again() -> None:
    with pytest.raises(KeyboardInterrupt):
        rounds.run(_parts([], killed="c"))
    templates.write(templates.file_of(FUNCTION), {"function": FUNCTION, "families": {"of": "another"}})
    did: list[str] = []
    assert rounds.run(_parts(did))
    assert did == ["a", "b", "c"]


def test_other_code_is_proven_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        rounds.run(_parts([], killed="c"))
    monkeypatch.setattr(rounds, "code_of", lambda _: "other")
    assert rounds.done(_parts([])) == {}


def test_from_the_start_where_asked_and_a_line_cut_short_is_left_out() -> None:
    with pytest.raises(KeyboardInterrupt):
        rounds.run(_parts([], killed="c"))
    with rounds.journal().open("a") as file:
        file.write('{"name": "c", "we')
    assert set(rounds.done(_parts([]))) == {"a", "b"}
    did: list[str] = []
    assert rounds.run(_parts(did), anew=True)
    assert did == ["a", "b", "c"]


def test_the_estimate_is_by_calls() -> None:
    assert rounds.estimate(_parts([])) == "about 0 s"
    assert rounds.estimate([Part("a", (), 600_000, lambda: True)]) == "about 10 min"


def test_another_command_leaves_what_was_stopped() -> None:
    with pytest.raises(KeyboardInterrupt):
        rounds.run(_parts([], killed="b"))
    assert rounds.run(_parts([])[2:])
    assert set(rounds.done(_parts([]))) == {"a"}
