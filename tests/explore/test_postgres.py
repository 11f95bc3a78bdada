"""A search on a real PostgreSQL that is stopped and started in the middle; not run where no server is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from explore import objectives, storage
from explore.space import origin
from explore.storage import Location
from explore.study import run
from hwspecs.errors import StudyError
from tests.explore.killing import Random, kill, started, whole
from tests.explore.test_study import KILLED, ROOT, same, searched
from tests.explore.toys import SEARCH, opened, use_toy, write

FOUND = shutil.which("pg_ctl") or next(iter(sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")))), None)
pytest.importorskip("psycopg2", reason="the extra 'postgres' is not installed")
pytestmark = pytest.mark.skipif(FOUND is None, reason="no PostgreSQL server is installed")


class Server:
    """A server of its own folder, on loopback."""

    def __init__(self, folder: Path) -> None:
        assert FOUND
        self.folder, self.bin = folder / "data", Path(os.path.realpath(FOUND)).parent
        self.user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}  # it does not run as root
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def call(self, program: str, *arguments: str) -> None:
        subprocess.run([self.bin / program, "-D", self.folder, *arguments], check=True, stdout=subprocess.DEVNULL,
                       cwd="/", **self.user)  # type: ignore[call-overload]  # fmt: skip

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self.call("pg_ctl", "-w", "-s", "-l", f"{self.folder}.log", "-o", options, "start")

    def stop(self) -> None:
        self.call("pg_ctl", "-w", "-s", "-m", "immediate", "stop")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="framecast-postgres-"))  # not below pytest's folder, which is root's alone
    found = Server(folder)
    if found.user:
        folder.chmod(0o755)
        shutil.chown(folder, "postgres", "postgres")
    found.call("initdb", "-U", "postgres", "-A", "trust")
    found.start()
    yield found
    found.stop()
    shutil.rmtree(folder)


def test_stopped_and_started(server: Server, tmp_path: Path, monkeypatch: Any) -> None:
    use_toy(monkeypatch)
    monkeypatch.setattr(storage, "RETRY", 0.1)
    search = objectives.read(opened(tmp_path, SEARCH, "search.trials=40"))
    restarts: list[threading.Thread] = []
    said: list[str] = []
    noticed = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        noticed.set()

    def start_again() -> None:
        noticed.wait(50)
        server.start()

    def stop_once(trials: Any) -> None:
        if len(trials) >= 16 and not restarts:
            server.stop()
            restarts.append(threading.Thread(target=start_again))
            restarts[0].start()

    monkeypatch.setattr("hwspecs.notes.say", say)
    found = run(search, Location(server.url), stop_once)
    restarts[0].join()
    assert said == [f"warning: {server.url}: the database does not answer; waiting up to 60 s for it"]
    assert same(found, searched(tmp_path, "search.trials=40"))
    assert same(found, run(search, Location(server.url)))  # what is stored
    monkeypatch.setattr(storage, "WAIT", 0.3)
    server.stop()
    with pytest.raises(
        StudyError, match=r"^postgresql://postgres@127\.0\.0\.1:\d+/postgres: cannot use the study \(.*\)"
    ):
        run(search, Location(server.url))
    server.start()


def worker(path: Path, url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", KILLED, "search", str(path), "--study", url]
    environment = {**os.environ, "FRAMECAST_CACHE": os.environ.get("FRAMECAST_CACHE", str(path.parent / "cache"))}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def test_several_machines_on_one_study(server: Server, tmp_path: Path, monkeypatch: Any) -> None:
    import optuna

    use_toy(monkeypatch)
    text = SEARCH.replace("trials: 20", "trials: 80\n  machines: 2")
    path = write(tmp_path, f"name: shared\n{text}")
    run(objectives.read(origin(str(path), ["name=alone"])), Location(server.url))
    both = [worker(path, server.url) for _ in range(2)]
    url = server.url.replace("postgresql://", "postgresql+psycopg2://")
    done = 0
    while done < 20:  # then one of them dies in the middle of a batch
        time.sleep(0.05)
        assert both[1].poll() is None
        studies = {s.study_name: s.n_trials for s in optuna.get_all_study_summaries(url)}
        done = studies.get("shared", 0)
    both[0].kill()
    assert both[1].wait() == 0, both[1].stderr and both[1].stderr.read()
    one, other = (optuna.load_study(study_name=name, storage=url).get_trials() for name in ("alone", "shared"))
    assert sorted(t.user_attrs[storage.PLACE] for t in other) == list(range(80))  # none lost, none twice
    places = {t.user_attrs[storage.PLACE]: t.params for t in one}
    assert places == {t.user_attrs[storage.PLACE]: t.params for t in other}
    search = objectives.read(origin(str(path)))
    with pytest.raises(StudyError, match=r"several machines share a study in PostgreSQL only; give one by --study"):
        run(search, Location(str(tmp_path / "s.journal")))


def test_searches_that_are_killed_at_random_moments(server: Server, tmp_path: Path) -> None:
    import optuna

    moments = Random.new()
    print(f"FRAMECAST_KILL_SEED={moments.seed}")
    write(tmp_path, SEARCH.replace("trials: 20", "trials: 64\n  machines: 2"))
    arguments = ["search", "toy.yaml", "--format", "csv", "--study", server.url, "--set"]
    alone, seconds = whole(tmp_path, *arguments, "name=undisturbed")
    both, met = [started(tmp_path, *arguments, "name=killed") for _ in range(2)], 0
    for i in range(4):
        time.sleep(moments.draws.uniform(0, seconds / 4))
        met += kill(both[i % 2])
        both[i % 2] = started(tmp_path, *arguments, "name=killed")
    for process in both:
        out, err = process.communicate(timeout=300)
        assert (process.returncode, out) == (0, alone), err
    assert met >= 2
    url = server.url.replace("postgresql://", "postgresql+psycopg2://")
    found = optuna.load_study(study_name="killed", storage=url).get_trials()
    assert sorted(t.user_attrs[storage.PLACE] for t in found) == list(range(64))  # none lost, none twice
