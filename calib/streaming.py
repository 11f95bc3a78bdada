"""Rows of memory-bound operators (norms, softmax, elementwise) through the physical model of `sim.cost`, and their features.

Rows of kernel time find in L2 what fits of it, since the call before left it there. Where a row holds the host's dispatch, a
kernel that is short beside it hides behind it, which a fit cannot tell from a warm L2 (public elementwise times on A100, V100
and T4 share one hidden time, not one share of their L2): those rows are priced cold.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from calib.families.base import Floats, Physical, floats
from hwspecs.rates import Rates
from sim.calibration import Calibration, Parameter, Terms
from sim.cost import cost
from sim.traffic import STREAM_BLOCK
from workloads.kind import ITEMSIZE, Pattern, Read, Work
from workloads.lower import FAR, column

if TYPE_CHECKING:
    import pandas as pd

HIDDEN = 28e-6  # s; kernel time below which most of it hides behind the host's dispatch. Public fp32 elementwise times: 28, 32,
# 29 us on A100, V100 and T4, so a property of the measuring host
ALIGNED = (2, 4, 8, 32, 128)  # elements whose multiples kernels load as vectors or whole warps
PADDED = (128, 256, 512, 1024)  # elements that a block takes of a row at a time
MOST_PADDED = 4.0  # times its size beyond which padding says no more than the size does


@dataclass(frozen=True)
class Operation:
    """Columns (rows,) of a streaming kernel: bytes, vector FLOPs, exponentials; a block to a row where `per_row`."""

    pattern: Pattern
    read_bytes: Floats
    write_bytes: Floats
    vector_flops: Floats
    exp_ops: Floats
    per_row: bool = False


def tensor_bytes(frame: pd.DataFrame) -> Floats:
    """Bytes of a rows x cols tensor of the row's dtype."""
    rows, cols = floats(frame, "rows", "cols")
    return np.asarray(rows * cols * frame["dtype"].map(ITEMSIZE).to_numpy(dtype=np.float64))


def price(frame: pd.DataFrame, op: Operation, rates: Rates, terms: Terms) -> Physical:
    """Seconds of every row; the host's dispatch apart, which is a floor."""
    moved = op.read_bytes + op.write_bytes
    work = Work(
        "stream", op.pattern, (Read("input0", op.read_bytes),), op.write_bytes,
        vector_flops=op.vector_flops, exp_ops=op.exp_ops,
        blocks=frame["rows"].to_numpy(dtype=np.float64) if op.per_row else 0, in_flight=STREAM_BLOCK if op.per_row else 0,
    )  # fmt: skip
    launched = (frame["timing"] == "with_launch").to_numpy()
    reuse = np.where(launched, FAR, moved)
    priced = cost(column(work, "fp32", distance=reuse), rates, "physical", with_terms(terms))
    gap = np.where(launched, 0.0, float(np.max(rates.launch_gap)))
    time = np.where(launched, hidden(priced.time), priced.time) + gap
    kept = {name: getattr(priced, name) for name in ("vector", "exp", "l2", "hbm", "latency")}
    from_memory = np.maximum(moved - float(np.max(rates.l2_capacity)), 0.0)
    return Physical(time, kept, priced.bound, from_memory / float(np.max(rates.hbm_bandwidth)))


def hidden(time: Floats) -> Floats:
    """What a kernel of this duration adds to the time of a call whose dispatch it overlaps: T y^2 / (1 + y^2), y = T / HIDDEN."""
    y = (time / HIDDEN) ** 2
    return np.asarray(time * y / (1.0 + y))


def with_terms(terms: Terms) -> Calibration:
    """A calibration of these values, without coverage, for `sim.cost`."""
    return Calibration("fit", {n: Parameter(v, "", 0.0, "") for n, v in asdict(terms).items()}, {})


def features(frame: pd.DataFrame, priced: Physical, rates: Rates) -> dict[str, Floats]:
    """Extents, alignment, whole waves of rows, what bounds the time, and the kind of row; dimensionless, logarithms to base 2."""
    rows, cols = floats(frame, "rows", "cols")
    sms, size = float(np.max(rates.sm_count)), tensor_bytes(frame)
    busy = np.maximum(sum(priced.terms.values()), 1e-12)
    per_cycle = np.max(rates.hbm_bandwidth) / (sms * np.max(rates.sm_clock))
    out: dict[str, Any] = {
        "rows": np.log2(rows), "cols": np.log2(cols), "size": np.log2(rows * cols),
        "of_l2": np.log2(size / np.max(rates.l2_capacity)), "floor_share": np.log2(priced.time / HIDDEN),
        "row_waves": np.log2(np.ceil(rows / sms) / (rows / sms)), "balance": np.log2(per_cycle) + np.zeros(len(frame)),
        "itemsize": size / (rows * cols), "launched": (frame["timing"] == "with_launch").to_numpy(dtype=np.float64),
        **{f"share_{name}": values / busy for name, values in priced.terms.items()},
        **{f"cols_in_{n}": (cols % n == 0).astype(np.float64) for n in ALIGNED},
        **{f"cols_to_{n}": np.minimum(np.ceil(cols / n) * n / cols, MOST_PADDED) for n in PADDED},
    }  # fmt: skip
    return out


def flags(frame: pd.DataFrame, ops: tuple[str, ...]) -> dict[str, Floats]:
    """1 where a row is of an operator, for each of them."""
    return {f"op_{op}": np.asarray(frame["op"] == op, dtype=np.float64) for op in ops}


def software(frame: pd.DataFrame) -> pd.Series[Any]:
    """The software of each row, "" where it is not stated."""
    return frame["software"].fillna("").astype(str)


def launch_floor(frame: pd.DataFrame) -> pd.Series[Any]:
    """The host's dispatch of an operator by a software, for rows that hold it."""
    return (frame["op"].astype(str) + " | " + software(frame)).where(frame["timing"] == "with_launch", "")
