"""What `workloads.verify --mend` leaves of templates that captures contradict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from workloads.templates import NONE, chosen
from workloads.verify import LOW, corner, mended

TREE = [0, NONE, 0, 1, 2, 0, [1, NONE, 0, 4, 5, 1, 2]]


def _entries() -> dict[str, Any]:
    return {"a": {"tree": TREE}, "b": {"like": "a"}, "c": {"tree": 0}}


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ([[2, 8, 8]], [[1, 8, 8], [1, 2, 30]], ((0, 1),)),  # one sample
        ([[5, 2, 4], [5, 4, 2], [2, 4, 4]], [[5, 2, 2], [9, 2, 2]], ((1, 2), (2, 2))),  # two latents a side
        ([], [[9, 3, 1]], ((2, 1),)),
        ([[2, 8, 8]], [[4, 9, 9], [2, 8, 9]], None),  # one that is right has no more of what is low
        ([[2, 8, 8]], [[2 + LOW, 9, 9]], None),
    ],
)
def test_a_corner_holds_all_that_is_wrong_and_nothing_that_is_right(right: Any, wrong: Any, expected: Any) -> None:
    assert corner(np.array(right), np.array(wrong)) == expected


def test_a_key_has_no_template_in_the_corner_and_its_own_elsewhere() -> None:
    right, wrong = [np.array([5, 2, 4]), np.array([5, 4, 2])], [np.array([5, 2, 2]), np.array([9, 2, 2])]
    after = mended(_entries(), "a", right, wrong)
    assert set(after) == {"a", "b", "c"}
    assert after["c"] == {"tree": 0}
    for symbols in np.ndindex(7, 7, 7):
        values = np.array(symbols) + 1
        corner_ = values[1] <= 2 and values[2] <= 2
        assert chosen(after["a"]["tree"], values) == (NONE if corner_ else chosen(TREE, values))


def test_a_key_that_is_wrong_elsewhere_is_taken_out_with_its_likes() -> None:
    assert set(mended(_entries(), "a", [np.array([5, 5, 5])], [np.array([9, 9, 9])])) == {"c"}
