"""Layer norm and RMS norm over rows x cols, along cols: one block to a row, statistics and scaling in one pass over memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calib import streaming
from calib.families.base import Family, Floats, Physical, joined
from hwspecs.rates import Rates
from sim.calibration import Terms
from workloads.ops.layer_norm import FLOPS

if TYPE_CHECKING:
    import pandas as pd

OPS = ("layernorm", "rmsnorm")


def physical(frame: pd.DataFrame, rates: Rates, terms: Terms) -> Physical:
    """The tensor read and written once."""
    size = streaming.tensor_bytes(frame)
    elements = frame["rows"].to_numpy(dtype=float) * frame["cols"].to_numpy(dtype=float)
    op = streaming.Operation("reduce", size, size, FLOPS * elements, 0.0 * elements, per_row=True)
    return streaming.price(frame, op, rates, terms)


def features(frame: pd.DataFrame, priced: Physical, rates: Rates) -> dict[str, Floats]:
    """See `calib.streaming.features`; and which norm it is."""
    return streaming.features(frame, priced, rates) | streaming.flags(frame, OPS)


FAMILY = Family(
    name="norm",
    ops=OPS,
    physical=physical,
    features=features,
    groups=lambda frame: joined(frame, "rows", "cols"),
    condition=streaming.software,
    floor=streaming.launch_floor,
    extents=("rows", "cols"),
    fitted=("hbm_reduce", "fill_drain_stream"),
    size=(64, 200),
)
