"""Matrix products: linear, linear_bias and bmm, in fp32 on the vector lanes and in 16 bits on the matrix unit.

Operands: a benchmark of serving libraries goes through six copies of the weights in turn, so that they are in L2 only where all
six fit; the others repeat one call on the same buffers. Rows timed as part of a CUDA graph hold the gap to the next kernel;
rows timed with their launch hold the host's dispatch, an additive floor for each operator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from calib import lanes, streaming
from calib.families.base import Family, Floats, Physical, floats, joined
from hwspecs.rates import Rates
from sim import gemm_reference as reference
from sim import tiles
from sim.calibration import Terms
from sim.gemm_reference import LANDSCAPE
from workloads.kind import ITEMSIZE

if TYPE_CHECKING:
    import pandas as pd

WEIGHT_COPIES = 6.0  # aiconfigurator collectors/gemm: weights in turn; the shared tables' README, quirks
BATCHED_EDGE = 64.0  # least tile edge of batched fp32 products (CUTLASS, SIMT kernels: 64 and 128)
A100_RATIO = 16.0  # 16-bit rate of the matrix unit over the fp32 rate of the lanes (A100 whitepaper, table 1)
TERMS = ("tensor", "l2", "hbm", "latency", "fixed")
EDGE = "least_edge"  # column of a frame that names another edge for its batched fp32 products


def shapes(frame: pd.DataFrame, dtype: str) -> reference.Shapes:
    """The rows of a frame, which must all be of one dtype, with the reuse that their benchmark leaves."""
    batch, m, n, k = floats(frame, "batch", "m", "n", "k")
    itemsize = float(ITEMSIZE[dtype])
    shared = np.where((frame["op"] == "bmm").to_numpy(), 0.0, 1.0)
    weights = np.where(shared == 1, 1.0, batch) * n * k
    copies = np.where(_served(frame), WEIGHT_COPIES, 1.0)
    distance = itemsize * (batch * m * k + batch * m * n + copies * weights)
    return reference.Shapes(batch, m, n, k, shared, distance, itemsize, dtype)


def _served(frame: pd.DataFrame) -> Any:
    """Rows of the benchmark that goes through copies of the weights: 16-bit linear layers timed inside a graph."""
    return ((frame["timing"] == "kernel") & (frame["op"] == "linear")).to_numpy()


def _each_dtype(frame: pd.DataFrame, of: Callable[[pd.DataFrame, str], dict[str, Any]]) -> dict[str, Any]:
    """Columns (rows,) put together from one call for each dtype of the frame."""
    out: dict[str, Any] = {}
    for dtype in sorted(frame["dtype"].unique()):
        rows = (frame["dtype"] == dtype).to_numpy()
        for name, values in of(frame[rows], dtype).items():
            out.setdefault(name, np.zeros(len(frame), dtype=values.dtype))[rows] = values
    return out


def abroad(frame: pd.DataFrame, rates: Rates, terms: Terms) -> Physical:
    """The same on a device that no fit is for: there, fp32 operands come from L2 as fast as the lanes want them. On the device
    that the shipped fit is of, lanes have the ratio to the matrix unit that is taken, and its correction was learned without.
    Batched fp32 products take few tiles, and a kernel that is short beside the host's dispatch hides behind it, as streams do."""
    p = physical(frame, rates, terms, delivered=True)
    launched = (frame["timing"] == "with_launch").to_numpy()
    return replace(p, time=np.where(launched, streaming.hidden(p.time), p.time))


def least_edge(frame: pd.DataFrame) -> Floats:
    """The least tile edge of each row, 0 where the library has the whole menu."""
    batched = ((frame["op"] == "bmm") & (frame["dtype"] == "fp32")).to_numpy()
    edge = frame[EDGE].to_numpy(dtype=np.float64) if EDGE in frame else BATCHED_EDGE
    return np.where(batched, edge, 0.0)


def _delivered(rates: Rates, dtype: str) -> Rates:
    """Rates with which fp32 on the lanes is priced: the terms tie the delivery of operands to the 16-bit rate of the matrix unit,
    which has nothing to do with the lanes; in its place, that rate which belongs to such lanes on an A100."""
    if dtype != "fp32":
        return rates
    return replace(rates, tensor={**rates.tensor, "fp16": A100_RATIO * np.asarray(rates.vector["fp32"])})


def _feed(rates: Rates) -> Floats:
    """How much longer each choice of tile takes on the lanes of the device than what feeds them allows elsewhere."""
    bm, bn, _ = tiles.MENU.T
    return np.asarray(
        lanes.feed(bm, bn, *(float(np.max(rate)) for rate in (rates.vector["fp32"], rates.shared_bandwidth)))
    )


def physical(frame: pd.DataFrame, rates: Rates, terms: Terms, delivered: bool = False) -> Physical:
    """Time of each product, and the gap to the next kernel where the row holds it. Products that a benchmark writes over and over
    stay in an L2 that holds them."""

    def of(part: pd.DataFrame, dtype: str) -> dict[str, Any]:
        on = _delivered(rates, dtype) if delivered else rates
        least = least_edge(part) if delivered else None
        feed = _feed(rates) if delivered and dtype == "fp32" else None
        found = reference.price(shapes(part, dtype), on, terms, True, least, from_memory=True, feed=feed)
        columns = dict(vars(found))
        return columns | dict(zip(LANDSCAPE, columns.pop("landscape"), strict=True))

    p = _each_dtype(frame, of)
    gap = np.where((frame["timing"] == "kernel").to_numpy(), float(np.max(rates.launch_gap)), 0.0)
    kept = {name: p[name] for name in (*TERMS, *LANDSCAPE, "waves", "tile")}
    return Physical(p["time"] + gap, kept, p["bound"], p["lower"])


def features(frame: pd.DataFrame, priced: Physical, rates: Rates) -> dict[str, Floats]:
    """See `sim.gemm_reference.features`; and what kind of row it is."""

    def of(part: pd.DataFrame, dtype: str) -> dict[str, Any]:
        rows = (frame["dtype"] == dtype).to_numpy()
        columns: dict[str, Any] = {name: values[rows] for name, values in priced.terms.items()}
        columns["landscape"] = np.stack([columns.pop(name) for name in LANDSCAPE])
        none = np.zeros(rows.sum())
        own = reference.Priced(priced.time[rows], bound=none.astype(np.int64), lower=none, **columns)
        return reference.features(shapes(part, dtype), own, own.time, float(np.max(rates.sm_count)))

    kind = {"bmm": (frame["op"] == "bmm"), "bias": (frame["op"] == "linear_bias"), "fp32": (frame["dtype"] == "fp32")}
    flags = {name: column.to_numpy().astype(np.float64) for name, column in kind.items()}
    return _each_dtype(frame, of) | flags


def _floor(frame: pd.DataFrame) -> pd.Series[Any]:
    launched = frame["timing"] == "with_launch"
    return (frame["op"] + " | " + frame["software"].fillna("").astype(str)).where(launched, "")


FAMILY = Family(
    name="gemm",
    ops=("linear", "linear_bias", "bmm"),
    physical=physical,
    features=features,
    groups=lambda frame: joined(frame, "n", "k"),
    condition=lambda frame: frame["software"].fillna("").astype(str),
    floor=_floor,
    extents=("batch", "m", "n", "k"),
    fitted=(
        "tensor_sustained", "hbm_tile", "fill_drain_tile", "split_reduction", "operand_delivery", "write_out", "launch_gap",
        "loop_latency", "tile_issue", "wave_share",
    ),
    values=("m", "n", "k"),
    size=(80, 60),
    recipe={"depth": 4, "rate": 5e-3, "noise": 0.08, "folds": 9},
    abroad=abroad,
    part=lambda frame: (frame["dtype"] == "fp32").map({True: "fp32", False: "16-bit"}),
)  # fmt: skip
