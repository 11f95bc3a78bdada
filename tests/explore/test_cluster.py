"""Chunks on a real local cluster of Dask, a worker of which is killed in the middle."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from explore import cluster, objectives, study, walk
from explore.storage import Location
from explore.study import Trials
from explore.walk import Columns, Walk
from hwspecs.errors import StudyError
from tests.explore.test_study import same as trials_same
from tests.explore.test_walk import GRID, points, same, walked
from tests.explore.toys import SEARCH, opened, use_toy

pytest.importorskip("dask.distributed", reason="the extra 'cluster' is not installed")


def test_a_killed_worker_costs_its_chunk_only(tmp_path: Path, monkeypatch: Any) -> None:
    from dask.distributed import Client, LocalCluster

    use_toy(monkeypatch)
    text = GRID.replace("log, 6 points", "log, 700 points")  # three chunks
    w = walked(tmp_path, text)
    whole = walk.run(w, tmp_path / "whole")
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as local:
        victim = next(iter(local.workers.values())).pid

        def killed(w: Walk, todo: list[int]) -> Iterator[tuple[int, Columns]]:
            for i, done in enumerate(cluster.chunks(w, todo, local.scheduler_address)):
                if i == 0:
                    os.kill(victim, signal.SIGKILL)
                yield done

        found = walk.run(w, tmp_path / "cluster", elsewhere=killed)
        with Client(local) as client:
            client.wait_for_workers(1)
    assert same(whole, found)
    import pandas as pd

    pd.testing.assert_frame_equal(points(tmp_path / "whole"), points(tmp_path / "cluster"), check_exact=True)


def test_no_scheduler(tmp_path: Path, monkeypatch: Any) -> None:
    use_toy(monkeypatch)
    monkeypatch.setattr(cluster, "START", 0.2)
    with pytest.raises(StudyError, match=r"^--cluster tcp://127\.0\.0\.1:9: no scheduler answers \(\w+: .*\)$"):
        walk.run(walked(tmp_path), elsewhere=lambda w, todo: cluster.chunks(w, todo, "tcp://127.0.0.1:9"))


def test_batches_of_a_search(tmp_path: Path, monkeypatch: Any) -> None:
    from dask.distributed import LocalCluster

    use_toy(monkeypatch)
    search = objectives.read(opened(tmp_path, SEARCH))
    alone = study.run(search, Location(str(tmp_path / "alone.journal")))
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as local:
        victim = next(iter(local.workers.values())).pid
        batches: list[int] = []

        def killed(trials: Trials) -> None:
            if not batches:
                os.kill(victim, signal.SIGKILL)
            batches.append(len(trials))

        with cluster.pricing(search, local.scheduler_address) as prices:
            found = study.run(search, Location(str(tmp_path / "cluster.journal")), killed, prices)
    assert batches == [8, 16, 20]
    assert trials_same(alone, found)
