"""Where a study is kept: a journal file that one search holds, or a database; in PostgreSQL several searches share one study.

Several searches share a study batch by batch: a batch belongs to the search that holds its advisory lock, which PostgreSQL takes
from it the moment that its connection ends, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explore.journal import Journal, held, repair
from hwspecs.errors import StudyError

if TYPE_CHECKING:
    import optuna

PLACE = "framecast: place"  # attribute of a trial: its number in the study that one search alone would make
WAIT, RETRY = 60.0, 1.0  # s that a database may be away, and between attempts to reach it
LOCKS = 0x6672_0000  # added to a study's id: the first key of its advisory locks; the second is the number of a batch
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a full disk, a full quota, a file that may not grow
SETUP = -1  # in place of a batch: the study is being made
ALIVE = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"  # s, s, tries


@dataclass(frozen=True)
class Location:
    """Where a study is kept: a file, or the URL of a database."""

    text: str

    @property
    def is_url(self) -> bool:
        """A storage URL as Optuna takes it, for example postgresql://host/name."""
        return "://" in self.text

    @property
    def is_shared(self) -> bool:
        """Several searches may work on one study in it."""
        return bool(re.match(r"postgres(ql)?[+:]", self.text))

    @property
    def shown(self) -> str:
        """Without a password."""
        return re.sub(r"(://[^:/@]+):[^@/]*@", r"\1:***@", self.text)

    def dashboard(self) -> str:
        """The command that shows it."""
        return f"optuna-dashboard {self.shown}"


@dataclass
class Claims:
    """Batches that this search holds. Without PostgreSQL every batch is its own, since no other search is there."""

    engine: Any = None
    study: int = 0
    connection: Any = None
    held: set[int] = field(default_factory=set)

    def take(self, batch: int) -> bool:
        """Hold a batch, unless another search does."""
        if self.engine is None or self.keeps(batch):
            return True
        if self.connection is None:
            self.connection = self.engine.connect()
            self._ask(ALIVE)
        got = bool(self._ask("SELECT pg_try_advisory_lock(%s, %s)", (LOCKS + self.study, batch)))
        if got:
            self.held.add(batch)
        return got

    def release(self, batch: int) -> None:
        """Let go of a batch; of none that is not held."""
        if self.keeps(batch):
            self._ask("SELECT pg_advisory_unlock(%s, %s)", (LOCKS + self.study, batch))
            self.held.discard(batch)

    def keeps(self, batch: int) -> bool:
        """It was taken, and the connection that holds it still lives."""
        return batch in self.held and bool(self._ask("SELECT 1"))

    def _ask(self, query: str, values: tuple[int, ...] = ()) -> Any:
        """The value that a query gives; a connection that fails is let go, and with it all that it held."""
        try:
            found = self.connection.exec_driver_sql(query, values or None)
            value = found.scalar() if found.returns_rows else None
            self.connection.commit()
        except Exception:  # of whatever driver
            self.close()
            raise
        return value

    def close(self) -> None:
        """Let go of all."""
        self.held.clear()
        if self.connection is not None:
            with contextlib.suppress(Exception):  # a connection that is gone
                self.connection.invalidate()
            self.connection = None


def finished(study: optuna.Study) -> dict[int, optuna.trial.FrozenTrial]:
    """Complete trials by place, in order; any other was left by another program and does not count."""
    import optuna

    states = (optuna.trial.TrialState.COMPLETE,)
    found: dict[int, optuna.trial.FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False, states=states):
        if PLACE in trial.user_attrs:
            found.setdefault(trial.user_attrs[PLACE], trial)
    return dict(sorted(found.items()))


def append(
    where: Location, study: optuna.Study, claims: Claims, batch: int, new: Mapping[int, optuna.trial.FrozenTrial]
) -> None:
    """Append trials of a batch by place: to a journal in one write, to a database one by one.

    A database that is away is waited for; then what it has of the trials is read, so that none is lost and none is there twice.
    A batch that another search has taken meanwhile is left to it. StudyError when the database stays away.
    """
    backend = getattr(study._storage, "_backend", None)
    if isinstance(backend, Journal):
        with backend.together():
            for trial in new.values():
                study.add_trial(trial)
        attempt(where, backend.flush)
        return

    def write() -> None:
        if not claims.take(batch):
            return
        for place in [place for place in new if place not in finished(study)]:
            if claims.engine is not None and not claims.keeps(batch):
                return
            study.add_trial(new[place])

    patiently(where, write)


def patiently(where: Location, do: Callable[[], Any]) -> Any:
    """do(), again while the database does not answer, for WAIT s at most; then, and for any other failure, StudyError."""
    from hwspecs.notes import say

    until = 0.0
    while True:
        try:
            return do()
        except Exception as error:  # of whatever driver: a database that is away, or anything else
            told, until = bool(until), until or time.monotonic() + WAIT
            if time.monotonic() >= until or not where.is_url or not is_away(error):
                _raise(where, error)
            if not told:
                say(f"warning: {where.shown}: the database does not answer; waiting up to {WAIT:.0f} s for it")
            time.sleep(RETRY)


def is_away(error: BaseException | None) -> bool:
    """The connection is the fault: SQLAlchemy's name for it, here or in what it was caused by."""
    names = {"OperationalError", "InterfaceError", "DisconnectionError"}
    return error is not None and (type(error).__name__ in names or is_away(error.__cause__ or error.__context__))


@contextlib.contextmanager
def opened(where: Location, make: Callable[[Any], optuna.Study]) -> Iterator[tuple[optuna.Study, Claims]]:
    """The study that `make` finds or makes in the storage; a journal is held for us alone while it is open."""
    if where.is_url:
        study, claims = attempt(where, lambda: _in_database(where, make))
        try:
            yield study, claims
        finally:
            claims.close()
        return
    path = Path(where.text)
    with held(path):
        repair(path)
        import optuna

        file = optuna.storages.journal.JournalFileBackend(str(path))
        yield attempt(where, lambda: make(optuna.storages.JournalStorage(Journal(path, file)))), Claims()


def _in_database(where: Location, make: Callable[[Any], optuna.Study]) -> tuple[optuna.Study, Claims]:
    """Tables and study are made by one search at a time. PostgreSQL by the driver of the extra 'postgres'; a connection that
    died is noticed before it is used."""
    import optuna
    import sqlalchemy

    url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", where.text)
    engine = sqlalchemy.create_engine(url, pool_pre_ping=True) if where.is_shared else None
    setup = Claims(engine)
    try:
        while not setup.take(SETUP):
            time.sleep(RETRY)
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        study = make(storage)
    finally:
        setup.close()
    return study, Claims(engine, study._study_id)


def attempt(where: Location, do: Callable[[], Any]) -> Any:
    """do(), its failure as one line."""
    try:
        return do()
    except StudyError:
        raise
    except Exception as error:  # whatever a database driver or a damaged file leads to
        _raise(where, error)


def _raise(where: Location, error: Exception) -> None:
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        text = (
            f"cannot write the study ({os.strerror(error.errno).lower()}); the same command goes on once there is room"
        )
        raise StudyError(f"{where.shown}: {text}") from None
    if isinstance(error, OSError):
        reason = (error.strerror or str(error)).lower()
    else:
        reason = f"{type(error).__name__}: {str(error) or 'no reason given'}".splitlines()[0]
    raise StudyError(f"{where.shown}: cannot use the study ({reason}); start with --study NEW or mend it") from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what Optuna says about experimental features and each trial."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)
