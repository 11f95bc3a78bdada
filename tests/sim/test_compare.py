"""compare: rows add up, a result equals its files, levels are never mixed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hwspecs.errors import SpecError
from sim import compare_report, files, profile_plots
from sim.compare import Comparison, Side, compare, of_files, of_result
from sim.report import ops_csv
from sim.result import Result
from tests.sim.toy import result


@pytest.fixture
def a100(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Result:
    return result(monkeypatch, tmp_path, "level=physical")


@pytest.fixture
def both(a100: Result, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Comparison:
    h100 = result(monkeypatch, tmp_path, "device=h100-sxm")
    return compare(of_result(a100, "a"), of_result(h100, "b"))


def test_rows_add_up_to_the_kernel_time(both: Comparison) -> None:
    for rows in (both.classes, both.components, both.bounds):
        assert sum(row.a for row in rows) == pytest.approx(both.a.data["gpu_time_s"])
        assert sum(row.b for row in rows) == pytest.approx(both.b.data["gpu_time_s"])


def test_moves_are_the_operators_whose_bound_differs(both: Comparison) -> None:
    before, after = both.a.operators, both.b.operators
    assert before
    assert after
    assert both.moves
    changed = [key for key in before if before[key][0] != after[key][0]]
    assert sum(move.operators for move in both.moves) == len(changed)
    assert sum(move.a for move in both.moves) == pytest.approx(sum(before[key][1] for key in changed))


def test_the_same_twice_differs_in_nothing(a100: Result) -> None:
    side = of_result(a100, "a")
    same = compare(side, side)
    assert same.moves == ()
    assert all(row.delta == 0 for row in (*same.whole, *same.classes, *same.components, *same.bounds, *same.memory))
    shown = compare_report.text(same)
    assert "on both" in shown
    assert "No operator changed its bound." in shown


def test_files_give_what_the_result_gives(a100: Result, tmp_path: Path) -> None:
    side = of_result(a100, "a")
    out = tmp_path / "out"
    out.mkdir()
    (out / files.RESULT).write_text(json.dumps(a100.to_json()))
    (out / "ops.csv").write_text(ops_csv(a100))
    for path in (out, out / files.RESULT):
        found = of_files(path)
        assert json.loads(json.dumps(side.data)) == found.data
        assert found.operators == side.operators
    (out / "ops.csv").unlink()
    alone = compare(of_files(out), side)
    assert alone.moves is None
    assert "without its ops.csv" in compare_report.text(alone)


def test_levels_are_not_mixed(a100: Result, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    roofline = of_result(result(monkeypatch, tmp_path, "level=roofline"), "b")
    with pytest.raises(SpecError) as caught:
        compare(of_result(a100, "a"), roofline)
    text = "'a' is at level physical, 'b' at level roofline; levels are never mixed: price both at one (--set level=physical)"
    assert caught.value.problems == (f"compare: {text}",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a framecast result, or damaged: "),
        ("[1]", "not a framecast result: schema version is None, expected 1; run it again"),
        ('{"schema_version": 9}', "not a framecast result: schema version is 9, expected 1; run it again"),
    ],
)
def test_a_file_that_is_no_result(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(SpecError) as caught:
        of_files(path)
    assert caught.value.problems[0].startswith(f"{path}: {message}")


def test_a_folder_without_a_result(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        of_files(tmp_path)
    assert caught.value.problems == (f"{tmp_path}/result.json: cannot read the result: no such file or directory",)


def test_a_table_that_is_not_ours(a100: Result, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(a100.to_json()))
    (tmp_path / "ops.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SpecError, match=r"ops\.csv: not a framecast table of operators: it has no column 'component'"):
        of_files(tmp_path)


def test_other_work_is_said(a100: Result, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fewer = of_result(result(monkeypatch, tmp_path, "request.steps=10", "level=physical"), "b")
    assert "not the same work" in compare_report.text(compare(of_result(a100, "a"), fewer))


def test_text_json_and_plot(both: Comparison, tmp_path: Path) -> None:
    shown = compare_report.text(both)
    for part in (
        "A: a, ",
        "By operator class",
        "By component",
        "By what bounds",
        "Operators whose bound changed",
        "Memory",
    ):
        assert part in shown
    data = json.loads(json.dumps(compare_report.to_json(both), allow_nan=False))
    assert data["speed_up"] == pytest.approx(both.a.data["latency_s"] / both.b.data["latency_s"])
    for name in ("c.svg", "d.svg"):
        profile_plots.comparison(both, tmp_path / name)
    assert (tmp_path / "c.svg").read_bytes() == (tmp_path / "d.svg").read_bytes()


def test_a_class_that_one_side_lacks() -> None:
    base = {
        "level": "physical", "latency_s": 1.0, "gpu_time_s": 1.0, "launch_gap_s": 0.0, "bounds": {"hbm": 1.0},
        "memory": {"at": "x"}, "peak_memory_bytes": 1, "memory_capacity_bytes": 2,
    }  # fmt: skip
    part = {"name": "unet", "time_s": 1.0}
    a = Side("a", {**base, "components": [{**part, "classes": {"Attention": {"time_s": 1.0}}}]}, None)
    b = Side("b", {**base, "components": [{**part, "classes": {"Memory": {"time_s": 1.0}}}]}, None)
    rows = {row.name: row for row in compare(a, b).classes}
    assert (rows["Attention"].b, rows["Memory"].a, rows["Memory"].ratio) == (0.0, 0.0, None)
