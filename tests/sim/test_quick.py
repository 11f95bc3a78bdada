from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from calib.fit import parts_of, predicted
from hwspecs.errors import CalibrationError
from sim import fitted as fits
from sim.quick import predictor

DEVICE = "a100-sxm-80gb"


def test_one_product_costs_what_the_array_code_says() -> None:
    m, n, k = np.array([[1, 4096, 4096], [4097, 320, 1280], [33, 65536, 5120], [16384, 2560, 10240], [7, 32, 32]]).T
    frame = pd.DataFrame({"m": m, "n": n, "k": k}).astype(float)
    frame = frame.assign(op="linear", dtype="bf16", batch=1.0, software="vllm 0.14.0", timing="kernel")
    frame = frame.assign(device_id=DEVICE, latency_us=1.0)
    (rows,) = parts_of(frame)
    fitted = fits.find(DEVICE)
    assert fitted is not None
    predict = predictor(DEVICE, "bf16", "vllm 0.14.0")
    expected = predicted(rows, fitted.parts[rows.name])[0]
    assert [predict(*row) for row in zip(m, n, k, strict=True)] == pytest.approx(expected, rel=1e-4)


def test_a_device_that_no_fit_holds() -> None:
    with pytest.raises(CalibrationError, match=r"no fit holds bf16 matrix products of 'l40s'"):
        predictor("l40s")
