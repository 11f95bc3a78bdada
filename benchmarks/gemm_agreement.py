"""How far the matrix-product model is from a table of published times: `python -m benchmarks.gemm_agreement TABLE`.

TABLE is a CSV with columns device, op, dtype, batch, m, n, k, latency_us (one row a measurement; the median per shape is
taken). Only bf16 linear layers of the A100 SXM 80 GB are compared: the constants were fitted, by others, to rows of this
kind, so this is agreement, not a score on rows kept out.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from tabulate import tabulate

from hwspecs import device
from hwspecs.rates import rates
from sim.cost import cost
from workloads.kind import Gemm, Read, Work
from workloads.lower import column

WEIGHT_COPIES = (
    6  # the published benchmark cycles through six weights, so that weights come from HBM unless all six fit in L2
)

COLUMNS = ("device", "op", "dtype", "m", "n", "k", "latency_us")  # that are read


def errors(table: Any, level: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Measured seconds, and (predicted - measured) / measured, per shape."""
    rows = table[(table.device == "A100-SXM4-80GB") & (table.op == "linear") & (table.dtype == "bf16")]
    shapes = rows.groupby(["m", "n", "k"], as_index=False).latency_us.median()
    m, n, k = (shapes[c].to_numpy(float) for c in "mnk")
    chip = rates(device.load("a100-sxm-80gb"))
    work = Work(
        "gemm",
        "tile",
        (Read("input0", 2 * m * k), Read("weight", 2 * n * k)),
        2 * m * n,
        gemm=Gemm(1, m, n, k),
        flops=2 * m * n * k,
    )
    kernels = column(work, "bf16", distance=2 * (m * k + m * n + WEIGHT_COPIES * n * k))
    measured = shapes.latency_us.to_numpy() * 1e-6
    predicted = cost(kernels, chip, level).time + (float(np.max(chip.launch_gap)) if level == "physical" else 0.0)
    return measured, predicted / measured - 1


def _table(pd: Any, arguments: list[str]) -> Any:
    """The table that the arguments name; leaves the program with one line where there is none."""
    if len(arguments) != 1:
        sys.exit("usage: python -m benchmarks.gemm_agreement TABLE (a CSV file)")
    try:
        table = pd.read_csv(arguments[0])
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[0]
        sys.exit(f"{arguments[0]}: cannot be read as CSV: {reason}")
    missing = [name for name in COLUMNS if name not in table]
    return sys.exit(f"{arguments[0]}: lacks the columns {', '.join(missing)}") if missing else table


def main(arguments: list[str]) -> None:
    """Print the errors by level and size."""
    import pandas as pd

    table, out = _table(pd, arguments), []
    for level in ("roofline", "physical"):
        measured, error = errors(table, level)
        for name, inside in (("all", measured > 0), (">= 50 us", measured >= 50e-6), ("< 50 us", measured < 50e-6)):
            e = 100 * np.abs(error[inside])
            out.append(
                [level, name, inside.sum(), *(f"{v:.1f}" for v in (np.median(e), e.mean(), np.quantile(e, 0.9)))]
            )
    print(tabulate(out, ["level", "rows", "shapes", "median %", "mean %", "p90 %"]))


if __name__ == "__main__":
    main(sys.argv[1:])
