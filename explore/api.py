"""Sweeps and searches from Python: what the commands of the same names do, with tables as DataFrames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hwspecs.errors import SpecError

if TYPE_CHECKING:
    import pandas as pd

    from explore.answer import Answer


def search(path: str | Path, settings: Sequence[str] = (), study: str = "", repeats: int = 1) -> Answer:
    """Complete the search of a scenario, and return its answer: `frame()`, `front_frame()`, `ranking_frame()` and so on.

    settings: 'field.path=value', as `--set` takes them. study: a file or a URL; '' is NAME.journal in the current folder.
    SpecError for a scenario that cannot be, StudyError for a study that cannot be used.
    """
    from explore import objectives
    from explore.answer import answer
    from explore.space import origin
    from explore.storage import Location
    from explore.study import run

    wanted = objectives.read(origin(str(path), settings))
    where = Location(study or f"{wanted.scenario.name}.journal")
    return answer(wanted, [run(one, where) for one in objectives.repeated(wanted, repeats)], where)


def sweep(path: str | Path, settings: Sequence[str] = (), out: str = "") -> pd.DataFrame:
    """Price every point of a sweep: one row a point; of a sweep in chunks one row a point of its front (all to the folder `out`).

    SpecError for a scenario that cannot be.
    """
    from explore import sweep as sweeps
    from explore import walk, walk_report
    from explore.space import origin

    plan = sweeps.plan(origin(str(path), settings))
    if plan.walked:
        ready = walk.walk(plan)
        return walk_report.frame(ready, walk.run(ready, Path(out) if out else None))
    if out:
        raise SpecError("out: a sweep that is no larger than one table has no folder; write the table that is returned")
    return sweeps.sweep(plan).frame()
