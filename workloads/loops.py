"""A trace with loops, and the same trace folded: pieces of calls, each run a number of times, one after the other.

A decoder that takes a video a few frames at a time repeats the same calls as often as the clip is long. Folded, clips of all
lengths are one structure: the calls of one pass, and for every tensor that a call reads or writes the piece, the place in it,
and the pass that made it, counted from the pass that reads it, from the first, or from the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from workloads.kind import Ints

PEELED = 2  # passes that a loop may differ in at its start, before several passes are taken as one (a loop in a loop)
TOGETHER = 8  # of them, at most
SAME, FIRST, LAST, EACH = range(4)  # a tensor is of pass j + by; of pass by; of the last but by; of each pass, in turn


Loop: TypeAlias = tuple[int, int, int]  # first call, calls of a pass, passes


@dataclass(frozen=True)
class Refs:
    """Tensors that the calls touch, as columns: CSR offsets by call, then piece, place, way of counting and `by` of each."""

    offsets: Ints
    piece: Ints
    place: Ints
    way: Ints
    by: Ints


@dataclass(frozen=True)
class Folded:
    """Pieces of calls.

    Attributes:
        calls: calls of one pass of each piece, (pieces,).
        tensors: tensors that one pass of each first touches, (pieces,).
        inputs, outputs: what the calls (of one pass of each piece, one after the other) read and write.
    """

    calls: Ints
    tensors: Ints
    inputs: Refs
    outputs: Refs

    def order(self, counts: Ints) -> tuple[Ints, Ints]:
        """For every call of the whole trace: the folded call, and in which pass it runs. counts: passes of each piece."""
        starts = _starts(self.calls)
        spans = [(s + np.arange(n), k) for s, n, k in zip(starts, self.calls, counts, strict=True)]
        folded = [np.tile(span, k) for span, k in spans]
        passes = [np.repeat(np.arange(k), len(span)) for span, k in spans]
        return np.concatenate(folded), np.concatenate(passes)

    def tensor_order(self, counts: Ints) -> tuple[Ints, Ints]:
        """The same for every tensor."""
        starts = _starts(self.tensors)
        spans = [(s + np.arange(n), k) for s, n, k in zip(starts, self.tensors, counts, strict=True)]
        return (
            np.concatenate([np.tile(span, k) for span, k in spans]),
            np.concatenate([np.repeat(np.arange(k), len(span)) for span, k in spans]),
        )

    def ids(self, refs: Refs, counts: Ints) -> tuple[Ints, Ints]:
        """CSR offsets and tensor ids of the whole trace's calls."""
        folded, passes = self.order(counts)
        lengths = np.diff(refs.offsets)[folded]
        entry = _ranges(refs.offsets[:-1][folded], lengths)
        now = np.repeat(passes, lengths)
        times = np.where(refs.way[entry] == EACH, counts[refs.piece[entry]], 1)
        turn = _ranges(np.zeros_like(times), times)
        owner = np.repeat(np.repeat(np.arange(len(folded)), lengths), times)
        entry, now = np.repeat(entry, times), np.repeat(now, times)
        piece, way, by = refs.piece[entry], refs.way[entry], refs.by[entry]
        made: Ints = np.select([way == SAME, way == FIRST, way == LAST], [now + by, by, counts[piece] - 1 - by], turn)
        ids = _starts(counts * self.tensors)[piece] + made * self.tensors[piece] + refs.place[entry]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(folded)))]).astype(np.int64)
        return offsets, ids


def _starts(counts: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(counts)])[:-1].astype(np.int64)


def _ranges(starts: Ints, lengths: Ints) -> Ints:
    """start, start + 1 ... of each length, one after the other."""
    shift = np.repeat(starts - _starts(lengths), lengths)
    return np.arange(int(lengths.sum())) + shift


def periods(tokens: Ints, least: int = 3) -> list[tuple[int, int, int]]:
    """Where a sequence repeats itself: (first, length of a pass, passes), ascending, at least so many passes each.

    Of overlapping ones the one that covers most, the shortest pass first.
    """
    return sorted(_periods(tokens, 0, least))


def _periods(tokens: Ints, shift: int, least: int) -> Iterator[tuple[int, int, int]]:
    best = (0, 0, 0, 0)  # covered, -length, first, passes
    for length in range(1, len(tokens) // least + 1):
        equal = tokens[:-length] == tokens[length:]
        if np.count_nonzero(equal) < (least - 1) * length:
            continue
        edges = np.flatnonzero(np.diff(np.concatenate([[0], equal.astype(np.int8), [0]])))
        runs = edges[1::2] - edges[::2]
        where = int(runs.argmax())
        passes = int(runs[where]) // length + 1
        if passes >= least:
            best = max(best, (passes * length, -length, int(edges[::2][where]), passes))
    covered, negative, first, passes = best
    if covered:
        yield (first + shift, -negative, passes)
        yield from _periods(tokens[:first], shift, least)
        yield from _periods(tokens[first + covered :], shift + first + covered, least)


def fold(
    tokens: Ints, inputs: tuple[Ints, Ints], outputs: tuple[Ints, Ints], tensors: int
) -> tuple[Folded, Ints] | None:
    """Calls with equal tokens where their operators agree, CSR (offsets, ids) of what they touch -> pieces and passes of each.

    The first passes of a loop, where they make tensors that later ones share, belong to the piece before, and its last pass to
    the piece after. None where there is no
    loop, or where it cannot be written so.
    """
    loops = periods(tokens)
    owner = _owners(inputs, outputs, tensors)
    if not loops or owner is None:
        return None
    peeled, times = [0] * len(loops), [1] * len(loops)  # passes left out at the start, and passes taken as one
    while True:
        tried = [_tried(*state) for state in zip(loops, peeled, times, strict=True)]
        kept = [loop for loop in tried if loop[2] > 1]
        if not kept:
            return None
        found = _folded(kept, len(tokens), owner, inputs, outputs)
        if not isinstance(found, set):
            return found
        for i in [i for i, loop in enumerate(tried) if loop in found]:
            peeled[i] += 1
            if peeled[i] > PEELED and times[i] < TOGETHER:
                peeled[i], times[i] = 0, times[i] + 1


def _tried(loop: Loop, peeled: int, times: int) -> Loop:
    """A loop without the passes at its start, and without its last: what it takes may be less than a whole pass's."""
    first, length, passes = loop
    return first + peeled * length * times, length * times, passes // times - peeled - 1


def _owners(inputs: tuple[Ints, Ints], outputs: tuple[Ints, Ints], tensors: int) -> Ints | None:
    """The call that first touches each tensor, which has to ascend with the tensors; None where it does not."""
    owner = np.full(tensors, np.iinfo(np.int64).max)
    for offsets, ids in (inputs, outputs):
        np.minimum.at(owner, ids, np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)))
    owner = np.minimum.accumulate(owner[::-1])[::-1]  # one that no call touches goes with the next
    owner = np.minimum(owner, len(inputs[0]) - 2)
    return owner if (np.diff(owner) >= 0).all() else None


def _folded(
    loops: Sequence[Loop], total: int, owner: Ints, inputs: tuple[Ints, Ints], outputs: tuple[Ints, Ints]
) -> tuple[Folded, Ints] | set[Loop]:
    """The pieces; or the loops of which a pass differs from the others."""
    pieces = list(_pieces(loops, total))
    starts = np.array([f for f, _, _ in pieces])
    lengths, counts = (np.array([p[i] for p in pieces], dtype=np.int64) for i in (1, 2))
    ends = np.searchsorted(owner, starts + lengths * counts)
    made = ends - np.concatenate([[0], ends[:-1]])
    wrong = {p for p, m in zip(pieces, made, strict=True) if p[2] > 1 and _uneven(owner, p, int(m))}
    if wrong:
        return wrong
    tensors = made // counts
    firsts = _starts(made)
    sides = [_refs(side, pieces, firsts, tensors, counts) for side in (inputs, outputs)]
    wrong = {loop for side in sides if isinstance(side, set) for loop in side}
    if wrong:
        return wrong
    read, written = sides
    assert isinstance(read, Refs)
    assert isinstance(written, Refs)
    return Folded(lengths, tensors, read, written), counts


def _pieces(loops: Sequence[Loop], total: int) -> Iterator[Loop]:
    """Loops, and what lies between them as pieces of one pass."""
    at = 0
    for first, length, passes in loops:
        if first > at:
            yield at, first - at, 1
        yield first, length, passes
        at = first + length * passes
    if at < total:
        yield at, total - at, 1


def _uneven(owner: Ints, piece: Loop, made: int) -> bool:
    """Whether the passes of a piece first touch tensors at different places."""
    first, length, passes = piece
    if made % passes:
        return True
    low = int(np.searchsorted(owner, first))
    places = (owner[low : low + made] - first).reshape(passes, -1)
    return bool((places - length * np.arange(passes)[:, None] != places[0]).any())


def _refs(
    side: tuple[Ints, Ints], pieces: Sequence[Loop], firsts: Ints, tensors: Ints, counts: Ints
) -> Refs | set[Loop]:
    """References of the calls of one pass of each piece; or the loops of which passes do not agree."""
    offsets, ids = side
    piece = np.searchsorted(firsts, ids, side="right") - 1
    made, place = np.divmod(ids - firsts[piece], np.maximum(tensors[piece], 1))
    rows: list[tuple[int, int, int, int]] = []
    lengths: list[int] = []
    wrong: set[Loop] = set()
    for found in pieces:
        first, length, passes = found
        for call in range(first, first + length):
            spans = [slice(offsets[call + j * length], offsets[call + j * length + 1]) for j in range(passes)]
            got = _entries([(piece[s], place[s], made[s], ids[s]) for s in spans], tensors, counts)
            if got is None:
                wrong.add(found)
                break
            rows += got
            lengths.append(len(got))
    if wrong:
        return wrong
    columns = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    return Refs(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), *columns)


Touched: TypeAlias = tuple[Ints, Ints, Ints, Ints]  # piece, place, pass and id of each tensor that a call touches


def _entries(passes: Sequence[Touched], tensors: Ints, counts: Ints) -> list[tuple[int, int, int, int]] | None:
    """References of a call that hold in every pass; None where there are none.

    The pass before the first lies in the piece before, where its tensors have the same distance as those of any other.
    """
    if len({len(piece) for piece, *_ in passes}) > 1:
        return None
    if len(passes) == 1:
        return _straight(*passes[0][:3], counts)
    piece, place, made, ids = (np.array([p[i] for p in passes]) for i in range(4))
    entries = []
    for column in range(piece.shape[1]):
        p, turn = int(piece[-1, column]), len(passes) - 1
        steps, mine = np.diff(ids[:, column]), made[:, column]
        if (steps == tensors[p]).all() and counts[p] > 1:
            way, by = SAME, int(mine[-1]) - turn
        elif (steps == 0).all():
            from_end = int(counts[p]) - 1 - int(mine[-1])
            way, by = (LAST, from_end) if from_end < mine[-1] else (FIRST, int(mine[-1]))
        else:
            return None
        entries.append((p, int(place[-1, column]), way, by))
    return entries


def _straight(piece: Ints, place: Ints, made: Ints, counts: Ints) -> list[tuple[int, int, int, int]]:
    """References of a call that runs once: of loops to each pass in turn, or counted from the nearer end."""
    entries: list[tuple[int, int, int, int]] = []
    i = 0
    while i < len(piece):
        p, n = int(piece[i]), int(counts[piece[i]])
        run = slice(i, i + n)
        each = n > 1 and len(made[run]) == n and (made[run] == np.arange(n)).all()
        if each and (piece[run] == p).all() and (place[run] == place[i]).all():
            entries.append((p, int(place[i]), EACH, 0))
            i += n
            continue
        from_end = n - 1 - int(made[i])
        way, by = (LAST, from_end) if n > 1 and from_end < made[i] else (FIRST, int(made[i]))
        entries.append((p, int(place[i]), way, by))
        i += 1
    return entries
