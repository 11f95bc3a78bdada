"""The blocks of fused attention kernels, and what short sequences pay for them."""

from __future__ import annotations

import numpy as np
import pytest

from hwspecs import device
from hwspecs.rates import rates
from sim.cost import cost
from sim.tiles import describe, filled
from tests.build import kernels
from workloads import attention_blocks as blocks
from workloads.kind import Flash, Ints, Work
from workloads.lower import Kernels, single


def of(found: blocks.Blocks) -> list[tuple[int, int, int]]:
    return [tuple(int(v) for v in block) for block in zip(*found.values(), strict=True)]  # type: ignore[misc]


def dims(*values: int) -> Ints:
    return np.array(values, dtype=np.int64)


def test_blocks_are_those_of_the_sources() -> None:
    """See the constants for the files of flash-attention, PyTorch and xFormers."""
    frames = dims(*[16] * 7)
    assert of(blocks.flash_2(frames, frames, dims(16, 40, 64, 80, 128, 136, 256))) == [
        (128, 128, 32), (128, 128, 64), (128, 128, 64), (128, 64, 96), (128, 64, 128), (128, 32, 160), (128, 64, 256),
    ]  # fmt: skip
    assert of(blocks.flash_2_split(dims(64, 128, 192))) == [(64, 256, 64), (64, 128, 128), (64, 64, 192)]
    assert of(blocks.flash_2(dims(1, 1), dims(1, 2048), dims(64, 64))) == [(128, 128, 64), (64, 256, 64)]
    assert of(blocks.flash_3(dims(64, 128, 128), dims(0, 0, 1))) == [(192, 128, 64), (128, 176, 128), (128, 128, 128)]
    assert of(blocks.memory_efficient(dims(40, 64, 80, 128, 512))) == [
        (64, 64, 64), (64, 64, 64), (64, 128, 112), (64, 128, 128), (32, 128, 512),
    ]  # fmt: skip


def test_the_first_flash_attention_pads_queries_by_sixteens() -> None:
    """fmha_fwd_hdim64.cu: 128 keys at once up to 128 of them, then 256; fmha_fwd_hdim128.cu: always 128."""
    queries, keys, head_dim = dims(8, 100, 4096, 4096), dims(8, 128, 4096, 4096), dims(40, 64, 64, 80)
    assert of(blocks.flash_1(queries, keys, head_dim)) == [
        (16, 128, 64), (112, 128, 64), (128, 256, 64), (128, 128, 128),
    ]  # fmt: skip


def attention(length: int, head_dim: int, of_heads: int, way: str = "flash-2") -> Kernels:
    d = {
        "batch": of_heads // 16, "heads": 16, "kv_heads": 16, "q_len": length, "kv_len": length, "head_dim": head_dim,
        "causal": 0, "role": 2, "interleaved": 0, "mask": 0,
    }  # fmt: skip
    return kernels([("attention", d)], attention=way)


@pytest.mark.parametrize(("head_dim", "filled"), [(64, 128), (128, 64)])
def test_frames_that_fill_no_block_take_the_time_of_one(head_dim: int, filled: int) -> None:
    """Temporal attention over 8 frames and over a block of keys, in an L2 and memory that are no limit: the same products."""
    chip = device.load("a100-sxm-80gb")
    one, whole = (cost(attention(n, head_dim, 1 << 16), rates(chip)) for n in (8, filled))
    assert one.kernels.name == whole.kernels.name == ("flash attention",)
    assert one.tensor[0] == pytest.approx(whole.tensor[0], rel=1e-12)
    assert one.l2_bytes[0] == pytest.approx(whole.l2_bytes[0] * 8 / filled)  # what is beyond the sequence is not loaded


def test_l2_bytes_of_a_block_are_those_of_its_sequence() -> None:
    """4 tensors of 1024 x 16 x 64 two-byte elements, once each."""
    assert cost(attention(16, 64, 1024), rates(device.load("a100-sxm-80gb"))).l2_bytes[0] == 4 * 1024 * 16 * 64 * 2


def test_a_causal_mask_skips_whole_blocks() -> None:
    """Of 8 x 16 blocks of 128 x 64, row i of blocks meets 2 (i + 1) of 16: 72 of 128; of 16 x 8 of 64 x 128, also 72."""
    for rows, keys in ((128, 64), (64, 128)):
        full, masked = (
            single(
                Work("one", "tile", (), 0, flash=Flash(1 << 14, 1024, 1024, 64, c, rows=rows, keys=keys, depth=64)),
                "fp16",
            )
            for c in (0, 1)
        )
        a, b = (cost(k, rates(device.load("a100-sxm-80gb"))).tensor[0] for k in (masked, full))
        assert a / b == pytest.approx(72 / 128, rel=1e-3)


def test_a_fused_kernel_says_its_block() -> None:
    k = attention(16, 64, 1024)
    found = cost(k, rates(device.load("a100-sxm-80gb")))
    assert describe(int(found.tile[0]), k.flash[:, 0]) == "128x128 of scores"
    assert filled(int(found.tile[0]), k.flash[:, 0]) == (16 / 128) ** 2
    for queries, share in ((8, 64 / 128**2), (128, 1), (200, 200**2 / 256**2)):
        k = attention(queries, 64, 16)
        found = cost(k, rates(device.load("a100-sxm-80gb")))
        assert filled(int(found.tile[0]), k.flash[:, 0]) == share
    assert filled(0, k.flash[:, 0]) is None  # a matrix product's tile


# tokens, us: 64 x 32 heads of head_dim 64, bf16, not causal, flash-attention 2 in vLLM 0.24's vision encoder on an L40S, replayed
# from a CUDA graph (aiconfigurator, Apache-2.0). Nothing is fitted to them.
SHORT = ((1, 53.8), (16, 58.5), (32, 59.7), (52, 56.1), (64, 58.0))


def test_short_sequences_take_published_times() -> None:
    """Measured, 64 tokens take hardly longer than one. Ours are of the kernel alone, and leave out what masking a block costs."""
    times = []
    for length, published in SHORT:
        k = attention(length, 64, 64 * 32)
        k.distances[:] = k.reads.sum() + k.write_bytes[0]  # the same buffers over and over
        times.append(float(cost(k, rates(device.load("l40s"))).time[0]) * 1e6)
        assert 0.6 < times[-1] / published < 1.0
    assert max(times) / min(times) < 1.25  # at 64 tokens, 67 MB: part of them leaves our L2
