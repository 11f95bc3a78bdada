"""Latency-bandwidth model of collectives over identical GPUs: steps x latency + bytes on the wire / bandwidth.

Forms: Thakur, Rabenseifner and Gropp 2005 (ring and recursive algorithms); bytes on the wire as in nccl-tests' PERFORMANCE.md.
Sizes are those that nccl-tests prints: the buffer of one GPU for all_reduce and all_to_all, the whole gathered (or not yet
scattered) buffer for all_gather and reduce_scatter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
OPS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv")


@dataclass(frozen=True)
class Link:
    """How one GPU reaches the others: B/s in one direction at best, and seconds that one step takes however small it is.

    `flagged`: the same of messages that carry a flag beside every word, which need no handshake and move half as much (NCCL,
    protocol LL); None: there are none. Floats, or arrays that broadcast against the sizes.
    """

    bandwidth: Any
    latency: Any
    flagged: Any = None

    def protocols(self) -> list[Link]:
        """The link as plain messages see it, and as those with flags do."""
        return [self] if self.flagged is None else [self, Link(self.bandwidth / 2.0, self.flagged)]


def wire_bytes(op: str, size: Floats, gpus: Floats) -> Floats:
    """Bytes that each GPU has to send, whatever the algorithm. Raises ValueError for an unknown collective."""
    others = (gpus - 1.0) / gpus
    if op not in OPS:
        raise ValueError(f"collective: found '{op}', expected one of {', '.join(OPS)}")
    share: dict[str, Any] = {"all_reduce": 2.0 * others, "send_recv": 1.0}
    return np.asarray(size * share.get(op, others))


def ring(op: str, size: Floats, gpus: Floats, link: Link) -> Floats:
    """Seconds by a ring: each step passes one share of the buffer on; the least bytes, the most steps."""
    steps = {"all_reduce": 2.0 * (gpus - 1.0), "send_recv": np.ones_like(gpus)}.get(op, gpus - 1.0)
    return np.asarray(steps * link.latency + wire_bytes(op, size, gpus) / link.bandwidth)


def direct(op: str, size: Floats, gpus: Floats, link: Link) -> Floats:
    """Seconds where every GPU sends to all others at once: one step; an all_reduce sends the whole buffer to each."""
    moved = size * (gpus - 1.0) if op == "all_reduce" else wire_bytes(op, size, gpus)
    return np.asarray(link.latency + moved / link.bandwidth)


def seconds(op: str, size: Any, gpus: Any, link: Link, exchanges: Any = True) -> Floats:
    """Seconds of the fastest way, (rows,): ring or direct, with flags or without; libraries choose by size. One GPU takes none.

    exchanges: whether the library sends directly what a ring can carry, (rows,); NCCL does not. An all_to_all always is direct.

    Raises ValueError for an unknown collective.
    """
    size, gpus = np.asarray(size, dtype=np.float64), np.asarray(gpus, dtype=np.float64)
    may = np.asarray(exchanges) | (op == "all_to_all")
    ways = [
        np.minimum(ring(op, size, gpus, on), np.where(may, direct(op, size, gpus, on), np.inf))
        for on in link.protocols()
    ]
    best = np.min(ways, axis=0)
    return np.asarray(np.where(gpus > 1, best, 0.0))
