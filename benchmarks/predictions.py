"""Speed of predictions at the calibrated level: `python -m benchmarks.predictions`.

One matrix product by the Python API, and the pricing of 250,000 rows of a table (reading the table apart).
"""

from __future__ import annotations

import time

import numpy as np
from tabulate import tabulate

DEVICE, ROWS, CALLS = "a100-sxm-80gb", 250_000, 5000


def one() -> float:
    """Seconds of one prediction, warm."""
    from sim.quick import predictor

    predict = predictor(DEVICE, "bf16", "vllm 0.14.0")
    predict(4096, 4096, 4096)
    begin = time.perf_counter()
    for i in range(CALLS):
        predict(1 + i, 4096, 4096)
    return (time.perf_counter() - begin) / CALLS


def table() -> float:
    """Seconds to price ROWS products with random shapes."""
    import pandas as pd

    from calib.predict import predict, target

    rng = np.random.default_rng(0)
    extents = 2.0 ** rng.uniform(4, 14, (3, ROWS))
    frame = pd.DataFrame(dict(zip("mnk", np.round(extents), strict=True))).assign(
        op="linear", dtype="bf16", batch=1.0, device_id=DEVICE, software="vllm 0.14.0", timing="kernel", latency_us=1.0
    )
    frame = frame.assign(flops=2 * frame.m * frame.n * frame.k, read_bytes=1.0, write_bytes=1.0)
    on = target(DEVICE)
    begin = time.perf_counter()
    predict(frame, on)
    return time.perf_counter() - begin


def main() -> None:
    """Print both, with what was asked for."""
    rows = [["one prediction, us", f"{1e6 * one():.1f}", "50"], [f"{ROWS} rows, s", f"{table():.1f}", "10"]]
    print(tabulate(rows, ["what", "took", "at most"], disable_numparse=True))


if __name__ == "__main__":
    main()
