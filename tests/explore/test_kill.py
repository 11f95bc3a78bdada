"""`kill -9` at random moments of `framecast sweep` and `framecast search`: the result is that of a run that nothing disturbed."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from explore import storage
from explore.walk import CHUNK
from tests.explore.killing import Random, killed, whole
from tests.explore.toys import SEARCH, write

SWEEP = """sweep:
  device.sm_count: 64..256 step 4
  device.hbm.bandwidth: 1..8 TB/s log, 9600 points
  device.l2.capacity: [20 MiB, 40 MiB]
  objectives: {latency_s: minimize, area_mm2: minimize}
  constraints: [area_mm2 <= 858]
"""
COUNT = 49 * 9600 * 2  # points of it, in fifteen chunks
TRIALS = 320
KILLS = 4


@pytest.fixture
def moments() -> Random:
    """Random moments; the seed is printed where a test fails."""
    found = Random.new()
    print(f"FRAMECAST_KILL_SEED={found.seed}")
    return found


def delays(moments: Random, seconds: float) -> list[float]:
    """When to kill a command that works for so many seconds: nearly all of the kills meet it at work."""
    return [moments.draws.uniform(0, seconds / 2) for _ in range(KILLS)]


def files(folder: Path) -> dict[str, bytes]:
    """What a folder holds, by name; what a kill left of results that were not done is hidden."""
    every = (p for p in folder.rglob("*") if p.is_file() and not p.relative_to(folder).parts[0].startswith("."))
    return {str(p.relative_to(folder)): p.read_bytes() for p in every}


def test_a_sweep(tmp_path: Path, moments: Random) -> None:
    write(tmp_path, SWEEP)
    arguments = ["sweep", "toy.yaml", "--format", "json", "--out"]
    whole(tmp_path, *arguments, "first")  # compiles
    alone, seconds = whole(tmp_path, *arguments, "alone")
    finished: dict[str, int] = {}

    def look() -> None:
        """Every file that looks whole is whole, and none that was there has gone or was made again."""
        now = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out/points").glob("part-*.parquet")}
        assert finished.items() <= now.items()
        rows = sum(min(CHUNK, COUNT - int(name[5:11]) * CHUNK) for name in now)
        assert not now or len(pd.read_parquet(tmp_path / "out/points")) == rows
        finished.update(now)

    out, met = killed(tmp_path, [*arguments, "out"], delays(moments, seconds), look)
    assert met >= KILLS // 2
    assert out == alone
    look()
    assert files(tmp_path / "alone") == files(tmp_path / "out")


def test_what_a_kill_leaves_of_a_chunk_is_no_point(tmp_path: Path) -> None:
    write(tmp_path, SWEEP.replace("9600", "10"))
    whole(tmp_path, "sweep", "toy.yaml", "--out", "out")
    points = tmp_path / "out/points"
    (points / ".part-000001.parquet.half").write_bytes((points / "part-000000.parquet").read_bytes())
    assert len(pd.read_parquet(points)) == 49 * 10 * 2
    (points / "part-000001.77.half").write_bytes(b"PAR1")  # as they were called before
    whole(tmp_path, "sweep", "toy.yaml", "--out", "out")
    assert [p.name for p in points.iterdir()] == ["part-000000.parquet"]


def places(journal: Path) -> list[int]:
    """Places of the trials whose lines in a journal are whole."""
    content = journal.read_bytes() if journal.exists() else b""
    lines = [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]
    return [line["user_attrs"][storage.PLACE] for line in lines if storage.PLACE in line.get("user_attrs", {})]


@pytest.mark.parametrize("goal", ["latency_s: minimize, relative_resources: minimize", "latency_s: minimize"])
def test_a_search(tmp_path: Path, moments: Random, goal: str) -> None:
    write(tmp_path, SEARCH.replace("latency_s: minimize, relative_resources: minimize", goal))
    arguments = ["search", "toy.yaml", "--trials", str(TRIALS), "--format", "csv", "--study"]
    alone, seconds = whole(tmp_path, *arguments, "alone.journal")
    finished: list[int] = []

    def look() -> None:
        """What was finished stays, each trial once and in order."""
        now = places(tmp_path / "s.journal")
        assert now[: len(finished)] == finished
        assert now == list(range(len(now)))
        finished[:] = now

    out, met = killed(tmp_path, [*arguments, "s.journal"], delays(moments, seconds), look)
    assert met >= KILLS // 2
    assert out == alone
    look()
    assert finished == list(range(TRIALS))


def test_a_search_in_a_database(tmp_path: Path, moments: Random) -> None:
    write(tmp_path, SEARCH)
    arguments = ["search", "toy.yaml", "--trials", "64", "--format", "csv", "--study"]
    alone, seconds = whole(tmp_path, *arguments, f"sqlite:///{tmp_path}/alone.db")
    finished = 0

    def look() -> None:
        nonlocal finished
        with sqlite3.connect(tmp_path / "s.db") as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master")]
            (now,) = database.execute("SELECT count(*) FROM trials").fetchone() if "trials" in tables else (0,)
        assert now >= finished
        finished = now

    out, met = killed(tmp_path, [*arguments, f"sqlite:///{tmp_path}/s.db"], delays(moments, seconds), look)
    assert met >= KILLS // 2
    assert out == alone
    look()
    assert finished == 64
