"""The same chunks of a sweep, and batches of a search, on Dask:
workers on this machine, or those of a scheduler that SLURM, Kubernetes or SSH started.

A chunk is a pure function of (walk, number): a worker that dies costs its chunk once more and nothing else.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from explore.objectives import Search
from explore.walk import Columns, Walk, price
from hwspecs.errors import StudyError

Floats: TypeAlias = NDArray[np.float64]
LOCAL = "local"
RETRIES = 10  # workers that may die on one chunk before it is taken to be the chunk's fault
AHEAD = 2  # chunks that each worker has waiting, so that results stay few
START = 30.0  # s to wait for a scheduler


def chunks(w: Walk, numbers: list[int], address: str = LOCAL) -> Iterator[tuple[int, Columns]]:
    """Number and columns of each chunk as they are done. StudyError where the scheduler is not there or a chunk fails."""
    if not numbers:
        return
    with _client(address) as client:
        shared = client.scatter(w, broadcast=True)
        yield from _gathered(client, shared, list(numbers))


@contextmanager
def pricing(search: Search, address: str = LOCAL) -> Iterator[Callable[[Mapping[str, Floats]], dict[str, Floats]]]:
    """What prices a batch of a search on the workers, some designs on each; a worker that dies costs its designs once more.

    StudyError where the scheduler is not there or pricing fails.
    """
    with _client(address) as client:
        shared = client.scatter(search, broadcast=True)
        workers = max(len(client.scheduler_info(n_workers=-1)["workers"]), 1)

        def prices(columns: Mapping[str, Floats]) -> dict[str, Floats]:
            count = len(next(iter(columns.values())))
            cuts = np.array_split(np.arange(count), min(workers, count))
            some = [{path: column[cut] for path, column in columns.items()} for cut in cuts]
            futures = [client.submit(_prices, shared, one, pure=False, retries=RETRIES) for one in some]
            try:
                each = client.gather(futures)
            except Exception as error:  # of the workers, whatever it was
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                raise StudyError(f"--cluster: a batch failed on the workers: {reason}") from None
            return {name: np.concatenate([one[name] for one in each]) for name in each[0]}

        yield prices


def _prices(search: Search, columns: Mapping[str, Floats]) -> dict[str, Floats]:
    return search.prices(columns)


def _gathered(client: Any, shared: Any, todo: list[int]) -> Iterator[tuple[int, Columns]]:
    """A bounded number of chunks is under way at any time."""
    from dask.distributed import as_completed

    workers = max(len(client.scheduler_info(n_workers=-1)["workers"]), 1)
    ready = as_completed([], raise_errors=False)
    waiting: dict[Any, int] = {}

    def send() -> None:
        number = todo.pop(0)
        future = client.submit(price, shared, number, pure=False, retries=RETRIES)
        waiting[future.key] = number
        ready.add(future)

    for _ in range(min(AHEAD * workers, len(todo))):
        send()
    for future in ready:
        number = waiting.pop(future.key)
        if future.status != "finished":
            raise StudyError(f"--cluster: chunk {number} failed on the workers: {_reason(future)}")
        columns = future.result()
        del future
        if todo:
            send()
        yield number, columns


def _reason(future: Any) -> str:
    error = future.exception()
    return f"{type(error).__name__}: {error}".splitlines()[0]


@contextmanager
def _client(address: str) -> Iterator[Any]:
    """A client of the scheduler; a local cluster has a worker for each core, of one thread."""
    try:
        import dask
        from dask.distributed import Client, LocalCluster
    except ImportError:
        raise StudyError("--cluster: Dask is not installed; install framecast with the extra 'cluster'") from None
    own = {"distributed.scheduler.allowed-failures": RETRIES, "distributed.worker.memory.terminate": False}
    with dask.config.set(own):
        if address == LOCAL:
            cores = len(os.sched_getaffinity(0))
            options: dict[str, Any] = {"n_workers": cores, "threads_per_worker": 1, "dashboard_address": None}
            quiet = {"silence_logs": logging.CRITICAL, "env": {"NUMBA_NUM_THREADS": "1"}}
            with LocalCluster(**options, **quiet) as cluster, Client(cluster) as client:
                yield client
            return
        try:
            client = Client(address, timeout=START)
        except (OSError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise StudyError(f"--cluster {address}: no scheduler answers ({reason})") from None
        with client:
            yield client
