"""Formulas, borders and loops: what they are found from they give back, and what took no part too."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.borders import tree
from workloads.fit import fit
from workloads.formulas import formulas
from workloads.kind import Ints
from workloads.loops import fold
from workloads.templates import NONE, chosen

SEED = st.integers(0, 2**32 - 1)


def drawn(seed: int, count: int, symbols: int) -> Ints:
    """Sizes with small ones among them."""
    rng = np.random.default_rng(seed)
    return np.exp(rng.uniform(0, 6, (count, symbols))).astype(np.int64) + 1


class Sizes(NamedTuple):
    n: Ints
    h: Ints
    w: Ints


# What a quantity is, of the batch n and an image of h x w: products, halvings, paddings, text beside image.
RULES: tuple[Any, ...] = (
    lambda x: 2 * x.n * x.h * x.w * 320,
    lambda x: x.n * -(-x.h // 2) * -(-x.w // 2),
    lambda x: -(-x.h // 8) * -(-x.w // 8),
    lambda x: x.h * x.w + 77,
    lambda x: x.n * x.h * 8 + x.n * x.w * 3,
    lambda x: x.n * 24 * (x.h * x.w + 77) ** 2,
    lambda x: x.n * (x.h + 2) * (x.w + 2) * 4,
    lambda x: x.n * (8 * x.h + 1) * (8 * x.w + 1) * 3,
    lambda x: x.n * x.w * (x.h % 2 + 2),
    lambda x: 1000 * x.h + 512 * x.w + 77,
    lambda x: 17 + 0 * x.n,
)


@settings(max_examples=20)
@given(SEED)
def test_expressions_hold_where_they_were_not_found(seed: int) -> None:
    found_at, others = drawn(seed, 20, 3), drawn(seed + 1, 50, 3)
    columns, expected = (np.array([rule(Sizes(*x.T)) for rule in RULES]).T for x in (found_at, others))
    found, missing = fit(found_at, columns)
    assert missing == []
    assert np.array_equal(found.at(found_at), columns)
    assert np.array_equal(formulas(found.data()).at(others), expected)


@given(SEED)
def test_what_follows_no_rule_has_no_expression(seed: int) -> None:
    symbols = drawn(seed, 20, 3)
    noise = np.random.default_rng(seed).integers(1, 10**6, (20, 1))
    assert fit(symbols, noise)[1] == [0]


@given(SEED, st.integers(1, 30), st.integers(1, 4))
def test_a_tree_gives_every_sample_its_structure(seed: int, border: int, other: int) -> None:
    symbols = np.unique(drawn(seed, 40, 3), axis=0)
    labels = np.where(
        symbols[:, 0] <= border, 0, np.where(symbols[:, 1] % 2 == 0, 1, np.where(symbols[:, 2] > other, 2, 3))
    )
    found = tree(symbols, labels)
    assert [chosen(found, x) for x in symbols] == labels.tolist()


def test_another_condition_may_tell_the_samples_apart_as_well() -> None:
    symbols, labels = np.array([[1, 2], [2, 4], [8, 16], [9, 18]]), np.array([0, 0, 1, 1])
    first, other = tree(symbols, labels), tree(symbols, labels, without=0)
    assert (first[0], other[0]) == (0, 1)
    doubtful = np.array([1, 20])
    assert (chosen(first, doubtful), chosen(other, doubtful)) == (0, 1)


def test_between_what_was_seen_there_is_no_template() -> None:
    found = tree(np.array([[4], [9]]), np.array([0, 1]))
    assert [chosen(found, np.array([x])) for x in (3, 4, 5, 8, 9, 10)] == [0, 0, NONE, NONE, 1, 1]


def video(passes: int, calls: int, seed: int) -> tuple[Ints, tuple[Ints, Ints], tuple[Ints, Ints], int]:
    """Calls before, `passes` times the same, and one after that joins what each pass made; a pass reads the one before."""
    rng = np.random.default_rng(seed)
    skips = rng.integers(0, calls, calls)
    tokens, reads, writes = [900, 901], [[0], [1]], [[1], [2]]
    weights: dict[int, int] = {}
    tensors, before, made = 3, [2] * calls, []
    for _ in range(passes):
        now: list[int] = []
        for i in range(calls):
            if i not in weights:
                weights[i], tensors = tensors, tensors + 1
            reads.append([before[skips[i]], now[-1] if now else 2, weights[i]])
            now.append(tensors)
            writes.append([tensors])
            tokens.append(i)
            tensors += 1
        before = now
        made.append(now[-1])
    tokens.append(902)
    reads.append(made)
    writes.append([tensors])
    return np.array(tokens), csr(reads), csr(writes), tensors + 1


def csr(rows: list[list[int]]) -> tuple[Ints, Ints]:
    return np.cumsum([0, *map(len, rows)]), np.array([i for row in rows for i in row])


@given(SEED, st.integers(5, 12), st.integers(2, 6))
def test_a_folded_loop_unfolds_to_what_it_was(seed: int, passes: int, calls: int) -> None:
    tokens, reads, writes, tensors = video(passes, calls, seed)
    found = fold(tokens, reads, writes, tensors)
    assert found is not None
    folded, counts = found
    for refs, side in ((folded.inputs, reads), (folded.outputs, writes)):
        assert all(np.array_equal(a, b) for a, b in zip(folded.ids(refs, counts), side, strict=True))
    longer = counts + (counts > 1)
    again = video(passes + 1, calls, seed)
    for refs, side in ((folded.inputs, again[1]), (folded.outputs, again[2])):
        assert all(np.array_equal(a, b) for a, b in zip(folded.ids(refs, longer), side, strict=True))
    assert len(folded.tensor_order(longer)[0]) == again[3]
