"""The rules by which attention libraries cut a cache, against their own statements and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.attention_splits import Cut, Work, cut, features

SMS = 108.0  # A100


def one(batch: float, kv_heads: float, ratio: float, kv_len: float, third: float, q_len: float = 1.0) -> Cut:
    batch_, heads, keys, q, kv, dim, new = (np.array([float(v)]) for v in (
        batch, kv_heads * ratio, kv_heads, q_len, kv_len, 128.0, third
    ))  # fmt: skip
    return cut(Work(batch_, heads, keys, q, kv, dim, new), SMS)


def test_two_parts_are_better_than_three_on_an_a100() -> None:
    # flash_api.cpp: "if we have batch * n_heads = 48 and we have 108 SMs, having 2 splits (efficiency = 0.89) is better than
    # having 3 splits (efficiency = 0.67)"; the rule then counts two blocks an SM, so 96 groups
    assert one(12, 8, 4, 65536, third=0).parts == [2.0]


def test_a_full_device_is_not_split() -> None:
    assert one(22, 8, 4, 65536, third=0).parts == [1.0]  # 176 groups fill 0.8 of 216 slots


def test_heads_with_keys_of_their_own_are_not_split_by_the_second() -> None:
    found = one(1, 8, 1, 65536, third=0)
    assert (found.parts[0], found.steps[0], found.apart[0]) == (1.0, 512.0, 0.0)


@pytest.mark.parametrize(("kv_len", "apart"), [(448.0, 0.0), (449.0, 1.0)])
def test_the_third_never_splits_four_blocks(kv_len: float, apart: float) -> None:
    assert one(512, 8, 4, kv_len, third=1).apart == [apart]  # at any batch: decided as for one sequence


def test_the_third_deals_blocks_over_the_device() -> None:
    found = one(1, 8, 4, 112.0 * 100, third=1)  # 100 blocks x 8 heads x 1.1 over 108 SMs: 9 each, so 12 parts
    assert (found.parts[0], found.steps[0]) == (12.0, 9.0)
    assert one(512, 8, 4, 4096, third=1).parts == [1.0]


@pytest.mark.parametrize(
    ("heads", "length", "apart"),
    [(8, 256, 0.0), (8, 512, 1.0), (8, 1024, 1.0), (8, 1536, 0.0), (16, 1024, 0.0), (32, 512, 0.0)],
)
def test_a_prefill_is_split_where_one_sequence_does_not_fill_the_device(heads: int, length: int, apart: float) -> None:
    found = one(16, heads, 1, length, third=1, q_len=length)  # heads x blocks of 128 queries, below 0.8 x 108
    assert found.apart == [apart]
    assert one(16, heads, 1, length, third=0, q_len=length).parts == [1.0]
    assert set(features(found, decodes=False)) == {"log parts", "split kernel"}


@given(
    st.integers(1, 2048),
    st.sampled_from([1, 2, 8, 64]),
    st.sampled_from([1, 8]),
    st.integers(1, 1 << 17),
    st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_a_cut_holds_every_block(batch: int, kv_heads: int, ratio: int, kv_len: int, third: bool) -> None:
    found = one(batch, kv_heads, ratio, kv_len, float(third))
    blocks = np.ceil(kv_len / (112.0 if third else 128.0))
    assert 1.0 <= found.parts[0] <= 128.0
    assert found.parts[0] * found.steps[0] >= blocks > (found.steps[0] - 1.0) * found.parts[0]
    assert all(np.isfinite(v).all() for v in features(found, decodes=True).values())
