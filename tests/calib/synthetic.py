from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from calib.families.base import families
from hwspecs import device
from hwspecs.rates import rates
from sim.fitted import base_terms

DEVICE = "a100-sxm-80gb"
KNOWN = {  # parameters that synthetic rows are made from, away from where a fit starts
    "tensor_sustained": 0.72, "hbm_tile": 0.66, "fill_drain_tile": 5200.0, "split_reduction": 5600.0,
    "operand_delivery": 0.0125, "loop_latency": 8.0,
}  # fmt: skip


def gemm_table(rows: int, noise: float = 0.02, seed: int = 0, known: dict[str, float] | None = None) -> pd.DataFrame:
    """Products with random extents, timed by the physical model with KNOWN parameters and log-normal noise."""
    rng = np.random.default_rng(seed)
    extents = [32, 64, 128, 256, 512, 1024, 2048, 4096, 8192]
    frame = pd.DataFrame(
        {
            "device": "A100-SXM4-80GB", "device_id": DEVICE, "software": "made up", "op": "linear", "dtype": "bf16",
            "batch": 1.0, "m": rng.integers(1, 8192, rows).astype(float), "n": rng.choice(extents, rows).astype(float),
            "k": rng.choice(extents, rows).astype(float), "timing": "kernel",
        }
    )  # fmt: skip
    frame["latency_us"] = 1e6 * gemm_time(frame, known or KNOWN) * np.exp(noise * rng.standard_normal(rows))
    return frame


def gemm_time(frame: pd.DataFrame, known: dict[str, float]) -> np.ndarray:
    own = {name: value for name, value in known.items() if name != "tensor_sustained"}
    on = replace(rates(device.load(DEVICE)), tensor_sustained=known["tensor_sustained"])
    return families()["gemm"].physical(frame, on, replace(base_terms(), **own)).time
