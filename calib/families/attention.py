"""Attention: causal prefill, decoding of one token, and encoders, in 16 bits.

Rows of serving libraries are a layer: beside the fused kernel it writes new keys and values to the cache and runs small auxiliary
kernels, which is an additive floor for each library; rows timed eagerly hold the host's dispatch, a floor of the same form.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from calib.families.base import Family, Floats, Physical, floats, joined
from hwspecs.rates import Rates
from sim import attention_reference as reference
from sim.calibration import Terms
from workloads.kind import ITEMSIZE

if TYPE_CHECKING:
    import pandas as pd

# Softwares that follow the rules of FlashAttention 3: on an A100 their layer changes its kernel between 256 and 512 keys,
# decoding at any batch, in a prefill where one sequence does not fill the device. All others are taken to follow 2.
THIRD = ("sglang",)
TERMS = ("tensor", "l2", "hbm", "latency", "exp", "waves")


def _part(frame: pd.DataFrame) -> pd.Series[Any]:
    unfused = frame["implementation"].fillna("").astype(str).str.contains("unfused")
    return frame["op"].where(~unfused, "unfused")


def shapes(frame: pd.DataFrame) -> reference.Shapes:
    """The rows of a frame, which must all be of one dtype. A serving library cuts the keys."""
    batch, q, kv, heads, head_dim = floats(frame, "batch", "q_len", "kv_len", "heads", "head_dim")
    kv_heads = np.nan_to_num(frame["kv_heads"].to_numpy(dtype=np.float64), nan=0.0) if "kv_heads" in frame else heads
    kv_heads = np.where(kv_heads > 0, kv_heads, heads)
    causal = np.nan_to_num(frame["causal"].to_numpy(dtype=np.float64), nan=0.0) if "causal" in frame else 0.0 * batch
    dtype = str(frame["dtype"].iat[0])
    itemsize = float(ITEMSIZE[dtype])
    cached = frame["op"].isin(["prefill", "decode"]).to_numpy() * 2.0 * itemsize * batch * kv_heads * q * head_dim
    third = np.asarray(frame["software"].fillna("").astype(str).str.startswith(THIRD), dtype=np.float64)
    ops = set(frame["op"])
    serves = ops <= {"decode", "prefill"} and not frame["implementation"].fillna("").str.contains("unfused").any()
    return reference.Shapes(
        batch, q, kv, heads, kv_heads, head_dim, causal, cached, itemsize, dtype,
        third=third if serves else None, decodes=ops == {"decode"}, serves=serves,
    )  # fmt: skip


def abroad(frame: pd.DataFrame, rates: Rates, terms: Terms) -> Physical:
    """The same on a device that no fit is for; see `calib.families.gemm.abroad`. Caches are cut as is fastest there: which
    kernels a library has for it is not known."""
    return physical(frame, rates, terms, is_abroad=True)


def physical(frame: pd.DataFrame, rates: Rates, terms: Terms, is_abroad: bool = False) -> Physical:
    """Time of the kernels of each row."""
    how = {"decode": reference.decoded, "unfused": reference.unfused}
    labels = (_part(frame) + "/" + frame["dtype"]).to_numpy(dtype=str)
    out: dict[str, Any] = {}
    for label in sorted(set(labels)):
        mask = labels == label
        own = shapes(frame[mask])
        if is_abroad:
            own = replace(own, writes_stay=True, third=None)
        one = vars(how.get(label.split("/")[0], reference.fused)(own, rates, terms))
        for name, values in one.items():
            out.setdefault(name, np.zeros(len(frame), dtype=values.dtype))[mask] = values
    return Physical(out["time"], {name: out[name] for name in TERMS}, out["bound"], out["lower"])


def features(frame: pd.DataFrame, priced: Physical, rates: Rates) -> dict[str, Floats]:
    """See `sim.attention_reference.features`."""
    own = reference.Priced(priced.time, bound=priced.bound, lower=priced.lower, **priced.terms)
    return reference.features(shapes(frame), own, priced.time, float(np.max(rates.sm_count)))


def _software(frame: pd.DataFrame) -> pd.Series[Any]:
    return (frame["software"].fillna("").astype(str) + " " + frame["implementation"].fillna("").astype(str)).str.strip()


def small_kernels(frame: pd.DataFrame, rates: Rates, terms: Terms) -> Floats:
    """Seconds of one of the small kernels that a layer runs beside the fused one: the gap before it, and its start and end. Where
    a row holds the host's dispatch, which no device changes, a second."""
    one = float(np.max(rates.launch_gap)) + terms.fill_drain_stream / float(np.max(rates.sm_clock))
    return np.where((frame["timing"] == "kernel").to_numpy(), one, 1.0)


FAMILY = Family(
    name="attention",
    ops=("prefill", "decode", "encoder"),
    physical=physical,
    features=features,
    groups=lambda frame: joined(frame, "batch", "kv_len"),
    condition=_software,
    floor=lambda frame: _part(frame) + " | " + _software(frame),
    extents=("batch", "q_len", "kv_len", "heads", "kv_heads", "head_dim"),
    fitted=(
        "tensor_sustained", "hbm_tile", "fused_iteration", "fill_drain_tile", "operand_delivery", "fused_issue",
        "fused_prologue", "split_reduction",
    ),
    part=_part,
    abroad=abroad,
    floor_unit=small_kernels,
    values=("batch", "kv_len"),
    size=(96, 70),
    recipe={"depth": 4, "rate": 5e-3, "noise": 0.05, "folds": 10},
)  # fmt: skip
