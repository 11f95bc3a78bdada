"""Fused attention and eager broadcasts on Hopper against published rates."""

from __future__ import annotations

import numpy as np
import pytest

from hwspecs import device
from hwspecs.rates import rates
from sim.cost import cost
from tests.build import kernels
from workloads.kind import Flash, Work
from workloads.lower import single


def tflops(attention: str, head_dim: int, length: int, name: str = "h100-sxm") -> float:
    """Of 16384 tokens of width 2048, not causal, as in the papers."""
    heads, batch = 2048 // head_dim, 16384 // length
    d = {
        "batch": batch, "heads": heads, "kv_heads": heads, "q_len": length, "kv_len": length, "head_dim": head_dim,
        "causal": 0, "role": 0, "interleaved": 0, "mask": 0,
    }  # fmt: skip
    time = cost(kernels([("attention", d)], attention=attention), rates(device.load(name))).time.sum()
    return float(4 * 16384 * length * 2048 / time / 1e12)


# Shah et al. 2024, FlashAttention-3, figure 5, H100 SXM5, forward, not causal. The two at 16k set tensor.older.
@pytest.mark.parametrize(("length", "at_64", "at_128"), [(1024, 306, 350), (4096, 321, 368), (16384, 324, 370)])
def test_the_second_flash_attention_on_hopper(length: int, at_64: float, at_128: float) -> None:
    assert tflops("flash-2", 64, length) == pytest.approx(at_64, rel=0.08)
    assert tflops("flash-2", 128, length) == pytest.approx(at_128, rel=0.08)


@pytest.mark.parametrize(("length", "at_64", "at_128"), [(1024, 392, 565), (4096, 476, 638), (16384, 497, 648)])
def test_the_third_flash_attention_on_hopper(length: int, at_64: float, at_128: float) -> None:
    assert tflops("flash-3", 64, length) == pytest.approx(at_64, rel=0.15)
    assert tflops("flash-3", 128, length) == pytest.approx(at_128, rel=0.15)


def test_generations_differ_only_where_the_device_says_so() -> None:
    def seconds(older: int, name: str) -> float:
        fused = Flash(256, 4096, 4096, 64, 0, rows=128, keys=128, depth=64, older=older)
        work = Work("one kernel, two instructions", "tile", (), 0, flash=fused, flops=4 * 256 * 4096 * 4096 * 64)
        return float(cost(single(work, "fp16"), rates(device.load(name))).time[0])

    assert seconds(1, "a100-sxm-80gb") == seconds(0, "a100-sxm-80gb")
    assert seconds(1, "h100-sxm") > 1.2 * seconds(0, "h100-sxm")


def test_a_broadcast_on_an_h200_is_paced_by_integer_lanes() -> None:
    """sgl-project/sglang pull request 34004: modulation of FLUX.1 at 1024 x 1024, a step: products 3.09 ms, additions 3.14 ms."""
    products = [(4096, 38), (512, 38), (4608, 38)]
    seconds = 0.0
    for length, count in products:
        n = length * 3072
        d = {"elements": n, "read0": 2 * n, "read1": 6144, "read2": 0, "write": 2 * n, "exps": 0}
        seconds += count * float(np.sum(cost(kernels([("elementwise", d)]), rates(device.load("h200"))).time))
    assert pytest.approx(seconds, rel=0.15) == 3.09e-3
