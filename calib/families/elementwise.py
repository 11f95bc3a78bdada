"""Elementwise operators by the tensors that they read and write, and the arithmetic of each element."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from calib import streaming
from calib.families.base import Family, Floats, Physical, joined
from hwspecs.rates import Rates
from sim.calibration import Terms

if TYPE_CHECKING:
    import pandas as pd

# Exponentials (or as slow: powers, divisions) of each element; 0 where there is none. torch's kernels: gelu takes erf, pow two.
SLOW = {
    "add": 0.0, "mul": 0.0, "add_scalar": 0.0, "mul_scalar": 0.0, "relu": 0.0, "add_add": 0.0, "rope_inplace": 0.0,
    "add_broadcast": 0.0, "addcmul": 0.0, "div": 1.0, "div_scalar": 0.0, "pow": 2.0, "pow_scalar": 2.0, "tanh": 1.0, "exp": 1.0,
    "gelu": 1.0, "silu": 1.0, "geglu": 1.0, "silu_and_mul": 1.0,
}  # fmt: skip
OPS = tuple(SLOW)
GATED = ("silu_and_mul", "geglu")  # read a tensor of twice the columns
VECTOR = 4.0  # vector FLOPs of each element, about: one or two operations and the index arithmetic


def passes(frame: pd.DataFrame) -> tuple[Floats, Floats]:
    """Tensors of rows x cols that each row reads and writes. x + y + z is two kernels: the intermediate is written and read."""
    op = frame["op"]
    inputs = frame["inputs"].fillna(1.0).to_numpy(dtype=float) if "inputs" in frame else np.ones(len(frame))
    twice = (op == "add_add").to_numpy()
    read = np.where(op.isin(GATED), 2.0, np.where(twice, 4.0, inputs))
    return np.asarray(np.where(op == "add_broadcast", 1.0, read)), np.where(twice, 2.0, 1.0)


def physical(frame: pd.DataFrame, rates: Rates, terms: Terms) -> Physical:
    """Every tensor through memory once in each pass."""
    size, (read, written) = streaming.tensor_bytes(frame), passes(frame)
    elements = frame["rows"].to_numpy(dtype=float) * frame["cols"].to_numpy(dtype=float)
    slow = frame["op"].map(SLOW).to_numpy(dtype=float)
    op = streaming.Operation("stream", read * size, written * size, VECTOR * elements, slow * elements)
    return streaming.price(frame, op, rates, terms)


def features(frame: pd.DataFrame, priced: Physical, rates: Rates) -> dict[str, Floats]:
    """See `calib.streaming.features`; the passes over memory, and which operator it is."""
    read, written = passes(frame)
    own = {"passes": read + written}
    return streaming.features(frame, priced, rates) | own | streaming.flags(frame, OPS)


FAMILY = Family(
    name="elementwise",
    ops=OPS,
    physical=physical,
    features=features,
    groups=lambda frame: joined(frame, "rows", "cols"),
    condition=streaming.software,
    floor=streaming.launch_floor,
    extents=("rows", "cols"),
    fitted=("hbm_stream", "fill_drain_stream"),
    size=(64, 45),
)
