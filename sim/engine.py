"""The event loop: streams that run at the same time on one device share its SMs, engines and bandwidth.

A job is a list of pieces; a stream runs jobs, one after another, from the queue of its lane. A piece may wait for a time
(`ready`: issued by the host, arrived) and for a position of another job (`after`). While it runs:
1. SMs. Blocks queue in launch order, streams of higher priority first: a piece gets the slots that those before it leave, so
   that one which fills the device leaves nothing until its tail. On fewer slots the part of it that is bound by the SMs
   lasts longer. Or every stream has SMs of its own (`partition`), and their engines with them.
2. Engines and bandwidth are fluids, max-min fair in speed: all speeds rise together to what the slots allow, and when a
   resource is full its users stop rising (Bertsekas and Gallager, Data Networks, 1992, section 6.5.2).
3. L2. Time and work are those of 1/n of the cache, n the streams in flight (at least 1/8; interpolated in log2 n).
The next event is the first piece to end, or to be ready. What is known of real GPUs: docs/concurrency.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numba
import numpy as np

from sim.demand import COLUMNS, HBM_BYTES, L2_SHARES, RESOURCES, TENSOR, Floats, Pieces
from workloads.kind import Ints

TOGETHER = 1e-12  # share of a piece left over at which it ends with the event: rounding of sums of doubles
LEVELS, ON_SMS = len(L2_SHARES), 3  # tensor, vector and exp are the SMs' own
LOSS = (
    0.1  # share of speed; an assumption for what the loop leaves out: rows of DRAM closed by others, clocks that fall
)
SLIVER = 1e-9  # share of the slots below which a piece waits: rounding of sums of shares
Pack = tuple[Floats, Floats, Floats, Floats, Floats, "np.ndarray[tuple[int], np.dtype[np.bool_]]"]


@dataclass(frozen=True)
class Contention:
    """How kernels stand in each other's way; no measurement of ours narrows the ranges (docs/concurrency.md).

    Attributes:
        sms_kept: share of its slots that a kernel keeps others out of: 1 as a block scheduler places whole kernels in
            launch order (the default), 0 if any mix of kernels ran side by side. Range 0 to 1.
        l2_split: streams in flight leave each other (1/n)^l2_split of the L2: 1 an equal part each, 0 all of it. Range 0 to 1.
        loss: share of its speed that a kernel loses while another runs beside it, whatever they use. Range 0 to LOSS.
    """

    sms_kept: float = 1.0
    l2_split: float = 1.0
    loss: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.sms_kept <= 1 and 0 <= self.l2_split <= 1):
            raise ValueError("sms_kept and l2_split must lie between 0 and 1")
        if not 0 <= self.loss <= LOSS:
            raise ValueError(f"loss must lie between 0 and {LOSS:g}")


DEFAULT = Contention()
FLUID = Contention(0.0, 0.0)  # the optimistic end of every parameter
LOSSY = Contention(loss=LOSS)  # the pessimistic end


@dataclass(frozen=True)
class Job:
    """Pieces that run one after another on one stream.

    Attributes:
        program: indices into the pieces. ready: seconds before which each may not start; None: at once.
        after: a job whose end the first piece waits for, -1 for none. lane: whose streams run it.
    """

    program: Ints
    ready: Floats | None = None
    after: int = -1
    lane: int = 0


@dataclass(frozen=True)
class Streams:
    """Streams of a device.

    Attributes:
        lane: of each stream. partition: share of the SMs that each has for itself, () for SMs that all share.
        priority: of each, higher first; () for equal ones.
    """

    lane: tuple[int, ...]
    partition: tuple[float, ...] = ()
    priority: tuple[int, ...] = ()


@dataclass(frozen=True)
class Run:
    """What the loop found.

    Attributes:
        start, end: (positions,) seconds of every position of the jobs, laid end to end. first: (jobs + 1,) first position.
        stream: (jobs,) that ran it. hbm_peak: largest use of the peak HBM bandwidth at any instant. hbm_seconds: what the
            bytes moved would take at the peak bandwidth.
        when: (events,) seconds at which each event was. used: (events, 7) mean use, up to it, of each column of work and
            of the SMs' slots; both empty where they were not asked for.
    """

    start: Floats
    end: Floats
    first: Ints
    stream: Ints
    hbm_peak: float
    hbm_seconds: float
    when: Floats = field(default_factory=lambda: np.empty(0))
    used: Floats = field(default_factory=lambda: np.empty((0, COLUMNS + 1)))

    @property
    def makespan(self) -> float:
        """Seconds until the last job is done."""
        return float(self.end.max(initial=0.0))


def together(
    pieces: Pieces, jobs: Sequence[Job], streams: Streams, contention: Contention = DEFAULT, record: bool = False
) -> Run:
    """Run every job to its end.

    ValueError for impossible pieces, streams that do not fit the SMs, a lane without streams, jobs that wait for each other.
    """
    _check(pieces, jobs, streams)
    first = np.cumsum([0, *(len(j.program) for j in jobs)]).astype(np.int64)
    program = np.concatenate([np.asarray(j.program, np.int64) for j in jobs] or [np.empty(0, np.int64)])
    ready = np.concatenate([np.zeros(len(j.program)) if j.ready is None else j.ready for j in jobs] or [np.empty(0)])
    lanes = max([*streams.lane, *(j.lane for j in jobs)], default=0) + 1
    order = np.argsort([j.lane for j in jobs], kind="stable").astype(np.int64)
    queue = np.searchsorted(np.array([jobs[i].lane for i in order] or [0])[: len(jobs)], np.arange(lanes + 1))
    after = np.array([j.after for j in jobs], np.int64)
    number = len(streams.lane)
    share = np.array(streams.partition or [0.0] * number)
    priority = np.array(streams.priority or [0] * number, np.int64)
    start, end, ran = np.full(len(program), np.nan), np.full(len(program), np.nan), np.full(len(jobs), -1)
    events = 2 * len(program) + 8 if record else 0  # an event ends a piece, or lets one start
    when, used = np.empty(events), np.empty((events, COLUMNS + 1))
    packed = tuple(np.ascontiguousarray(getattr(pieces, n)) for n in
                   ("seconds", "work", "slots", "elastic", "fixed", "begins"))  # fmt: skip
    count, peak, moved = _loop(
        packed, program, first, ready, after, order, queue.astype(np.int64), np.array(streams.lane, np.int64),
        share, priority, contention.sms_kept, contention.l2_split, contention.loss, start, end, ran, when, used,
    )  # fmt: skip
    if np.isnan(end).any():
        raise ValueError("jobs wait for each other: none of those left can start")
    return Run(start, end, first, ran, peak, moved, when[:count], used[:count])


def _check(pieces: Pieces, jobs: Sequence[Job], streams: Streams) -> None:
    work, seconds = pieces.work, pieces.seconds
    if not ((seconds > 0).all() and (work >= 0).all() and (work <= seconds[..., None] * (1 + 1e-9)).all()):
        raise ValueError("durations must be above 0, and work between 0 and the duration")
    if not ((pieces.slots >= 0).all() and (pieces.slots <= 1).all()):
        raise ValueError("slots must lie between 0 and 1")
    if streams.partition and (min(streams.partition) <= 0 or sum(streams.partition) > 1 + 1e-9):
        raise ValueError("a partition needs shares above 0 that add up to at most 1")
    if any(len(j.program) == 0 for j in jobs):
        raise ValueError("a job needs at least one piece")
    if missing := sorted({j.lane for j in jobs} - set(streams.lane)):
        raise ValueError(f"no stream runs the jobs of lane {missing[0]}")


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _loop(pieces: Pack, program: Ints, first: Ints, ready: Floats, after: Ints, order: Ints, queue: Ints, lane: Ints,
          partition: Floats, priority: Ints, kept: float, split: float, loss: float, start: Floats, end: Floats, ran: Ints,
          when: Floats, used: Floats) -> tuple[int, float, float]:  # fmt: skip
    """Fills start, end, ran and (where they have room) when and used; events, and the peak and the
    integral of HBM use."""
    streams, now, events, peak, moved = len(lane), 0.0, 0, 0.0, 0.0
    following = queue[:-1].copy()  # next job of every lane
    job, at, left = np.full(streams, -1), np.full(streams, -1), np.empty(streams)
    on, line, ask = np.zeros(streams, np.bool_), np.arange(streams), np.zeros((streams, COLUMNS + 1))
    seconds, cap, speed, who = np.ones(streams), np.ones(streams), np.zeros(streams), np.zeros(streams, np.int64)
    fresh, known = np.zeros(streams, np.bool_), -1.0  # streams whose prices are not known; L2 level of those that are
    while True:
        _take(first, order, queue, lane, following, job, at, left, ran)
        wake = _begin(pieces[5], program, first, ready, after, priority, now, job, at, on, fresh, line, start, end)
        flying = on.sum()
        if flying == 0 and wake == np.inf:
            return events, peak, moved
        level = min(split * np.log2(max(flying, 1)), LEVELS - 1.0)
        _prices(pieces, program, at, on, level, level != known, fresh, seconds, ask)
        known = level
        _slots(pieces, program, at, on, line, partition, kept, ask, cap)
        _share(on, ask, cap, partition[0] > 0.0, who, speed)
        if loss > 0.0:
            _lose(ask, loss, speed)
        step, use = wake - now, 0.0
        for s in range(streams):
            if speed[s] > 0.0:
                step = min(step, left[s] * seconds[s] / speed[s])
                use += speed[s] * ask[s, HBM_BYTES]
        now = wake if step == wake - now else now + step
        peak, moved = max(peak, use), moved + step * use
        if len(when):
            _note(now, on, speed, ask, when, used, events)
        events += 1
        _advance(step, now, first, seconds, speed, job, at, left, on, end)


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _take(first: Ints, order: Ints, queue: Ints, lane: Ints, following: Ints, job: Ints, at: Ints, left: Floats,
          ran: Ints) -> None:  # fmt: skip
    """Streams without a job take the next one of their lane."""
    for s in range(len(lane)):
        if job[s] < 0 and following[lane[s]] < queue[lane[s] + 1]:
            job[s] = order[following[lane[s]]]
            following[lane[s]] += 1
            at[s], left[s], ran[job[s]] = first[job[s]], 1.0, s


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _begin(begins: Ints, program: Ints, first: Ints, ready: Floats, after: Ints, priority: Ints, now: float, job: Ints,
           at: Ints, on: Ints, fresh: Ints, line: Ints, start: Floats, end: Floats) -> float:  # fmt: skip
    """Starts the pieces that need not wait any more; the time at which the next of the others is ready."""
    wake = np.inf
    for s in range(len(job)):
        if job[s] < 0 or on[s]:
            continue
        before = after[job[s]] if at[s] == first[job[s]] else -1
        if before >= 0 and not end[first[before + 1] - 1] <= now:  # not a number: not ended
            continue
        if ready[at[s]] > now:
            wake = min(wake, ready[at[s]])
            continue
        on[s], fresh[s], start[at[s]] = True, True, now
        if begins[program[at[s]]]:
            _enqueue(line, s, priority)
    return wake


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _advance(step: float, now: float, first: Ints, seconds: Floats, speed: Floats, job: Ints, at: Ints, left: Floats,
             on: Ints, end: Floats) -> None:  # fmt: skip
    """Every piece in flight by a step; streams whose piece has ended go on to the next."""
    for s in range(len(on)):
        if on[s]:
            left[s] -= step * speed[s] / seconds[s]
            if left[s] <= TOGETHER:
                end[at[s]], on[s], left[s] = now, False, 1.0
                at[s] += 1
                if at[s] == first[job[s] + 1]:
                    job[s] = -1


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _enqueue(line: Ints, s: int, priority: Ints) -> None:
    """Stream s goes to the end of the line of its priority."""
    to = 0
    for i in range(len(line)):
        if line[i] != s:
            line[to] = line[i]
            to += 1
    while to > 0 and priority[line[to - 1]] < priority[s]:
        line[to] = line[to - 1]
        to -= 1
    line[to] = s


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _prices(pieces: Pack, program: Ints, at: Ints, on: Ints, level: float, moved: bool, fresh: Ints, seconds: Floats,
            ask: Floats) -> None:  # fmt: skip
    """Duration alone, and use of each resource at full speed, of the pieces in flight; level 0 is the whole L2, 3 an eighth."""
    low = min(int(level), LEVELS - 2)
    part = level - low
    for s in range(len(at)):
        if on[s] and (fresh[s] or moved):
            p, fresh[s] = program[at[s]], False
            seconds[s] = (1.0 - part) * pieces[0][low, p] + part * pieces[0][low + 1, p]
            for r in range(COLUMNS):
                ask[s, r] = ((1.0 - part) * pieces[1][low, p, r] + part * pieces[1][low + 1, p, r]) / seconds[s]


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _slots(pieces: Pack, program: Ints, at: Ints, on: Ints, line: Ints, partition: Floats, kept: float, ask: Floats,
           cap: Floats) -> None:  # fmt: skip
    """Slots of the SMs in the order of the line, and the speed that they allow; the slots taken are the last column of ask."""
    free = 1.0
    for s in line:
        if not on[s]:
            continue
        p, own = program[at[s]], partition[s]
        need = pieces[2][p] if own > 0.0 else kept * pieces[2][p]
        got = min(need, own if own > 0.0 else free)
        free -= got
        ask[s, COLUMNS], cap[s] = got, 1.0
        if got < need:
            cap[s] = _on_fewer(got / need, pieces[3][p], pieces[4][p])
        for r in range(ON_SMS if own > 0.0 else 0):
            cap[s] = min(cap[s], own / max(ask[s, r], own))


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _on_fewer(share: float, elastic: float, fixed: float) -> float:
    """Speed of a piece that has a share of the slots that it asks for; 0 without any."""
    if share <= SLIVER:
        return 0.0
    squared = share * share
    stretched: float = np.sqrt(np.sqrt(elastic / (squared * squared) + 1.0 - elastic))
    return 1.0 / (fixed + (1.0 - fixed) * stretched)


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _share(on: Ints, ask: Floats, cap: Floats, own: bool, who: Ints, speed: Floats) -> None:
    """Max-min fair speeds of the pieces in flight, each at most its cap; `who` is scratch for those that have one."""
    first, number, fits = ON_SMS if own else TENSOR, 0, True
    for s in range(len(on)):
        speed[s] = cap[s] if on[s] else 0.0
        if speed[s] > 0.0:
            who[number] = s
            number += 1
    for r in range(first, RESOURCES):
        asked = 0.0
        for i in range(number):
            asked += speed[who[i]] * ask[who[i], r]
        fits = fits and asked <= 1.0
    if not fits:
        _fill(who[:number], ask, cap, first, speed)


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _fill(who: Ints, ask: Floats, cap: Floats, first: int, speed: Floats) -> None:
    """Progressive filling: all rise together; one stops at its cap, or when a resource that it uses is full."""
    for s in who:
        speed[s] = -1.0  # still rising
    rising = len(who)
    while rising > 0:
        least = np.inf
        for s in who:
            least = min(least, cap[s]) if speed[s] < 0.0 else least
        top, full = _tightest(who, ask, first, speed)
        for s in who:
            if speed[s] < 0.0 and (cap[s] <= min(least, top) or (top <= least and ask[s, full] > 0.0)):
                speed[s] = min(cap[s], top)
                rising -= 1


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _tightest(who: Ints, ask: Floats, first: int, speed: Floats) -> tuple[float, int]:
    """Speed at which the next resource is full if all that still rise do so together, and which one."""
    top, full = np.inf, -1
    for r in range(first, RESOURCES):
        taken, asked = 0.0, 0.0
        for s in who:
            if speed[s] < 0.0:
                asked += ask[s, r]
            else:
                taken += speed[s] * ask[s, r]
        if asked > 0.0 and max(1.0 - taken, 0.0) < top * asked:
            top, full = max(1.0 - taken, 0.0) / asked, r
    return top, full


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _lose(ask: Floats, loss: float, speed: Floats) -> None:
    """Kernels that run beside others lose speed; a gap asks for nothing, and neither takes nor loses any."""
    busy = 0
    for s in range(len(speed)):
        busy += speed[s] > 0.0 and ask[s, :RESOURCES].sum() > 0.0
    for s in range(len(speed)):
        if busy > 1 and ask[s, :RESOURCES].sum() > 0.0:
            speed[s] *= 1.0 - loss


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _note(now: float, on: Ints, speed: Floats, ask: Floats, when: Floats, used: Floats, event: int) -> None:
    """Use of every resource up to this event; slots count whole, whatever the speed."""
    when[event] = now
    for r in range(COLUMNS + 1):
        used[event, r] = 0.0
        for s in range(len(on)):
            if on[s]:
                used[event, r] += ask[s, r] * (1.0 if r == COLUMNS else speed[s])
