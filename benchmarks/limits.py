"""What bounds compiled pricing: `python -m benchmarks.limits` prints JSON.

Operations of one design are counted by running the very formulas on numbers that count, times how often the loops run them. The
machine's rates are measured in the same run by loops of the same compiler over blocks that stay in the first cache: additions and
multiplications, divisions, square roots; and the bandwidth of a copy that does not. A share of the limit is the time that the
counted work would take at those rates, over the time that was measured.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explore.evaluate import Workload, prepare, stack
from sim import compiled, formulas, tiles
from sim.formulas import Chip
from sim.packed import FLASH, STREAM
from sim.scenario import load

DESIGNS, BLOCK, REPEATS = 8192, 512, 4000
COPIED = 32 << 20  # doubles of the copy: 256 MB, which no cache holds
PAGE = Path(__file__).parent.parent / "docs/search.md"
BEGIN, END = "<!-- limits: begin -->\n", "<!-- limits: end -->\n"
SIMPLE, DIVISION, ROOT = "simple", "division", "root"
KINDS = {"divide": DIVISION, "true_divide": DIVISION, "sqrt": ROOT}  # of numpy's functions; all others are simple


class Counted:
    """A number that counts what is done with it, by kind."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts

    def __array_ufunc__(self, function: Any, _: str, *__: Any, **___: Any) -> Counted:
        """Any function of numpy."""
        return self._done(KINDS.get(function.__name__, SIMPLE))

    def _done(self, kind: str) -> Counted:
        self.counts[kind] += 1
        return self

    def __add__(self, _: Any) -> Counted:
        return self._done(SIMPLE)

    __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __gt__ = __lt__ = __add__

    def __truediv__(self, _: Any) -> Counted:
        return self._done(DIVISION)

    __rtruediv__ = __truediv__


def work(workload: Workload) -> Counter[str]:
    """Operations for one design whose chip no other has: of tiles, fused attention, streams, and what overlaps with them."""
    t, terms = workload.packed.tables, tiles.tile_terms(workload.packed.calibration.terms)
    once: dict[str, Counter[str]] = {name: Counter() for name in ("gemm", "flash", "other", "root")}
    number = {name: Counted(counts) for name, counts in once.items()}
    chip = {name: Chip(*[number[name]] * len(Chip._fields)) for name in once}
    g = formulas.gemm(chip["gemm"], terms, 2.0, 512.0, 512.0, 512.0, 2.0, 1e9, 128.0, 128.0, 1.0)
    _ = formulas.fourth(g.tensor) + formulas.fourth(g.l2) + formulas.fourth(g.latency)
    f = formulas.flash(chip["flash"], terms, 16.0, 4096.0, 4096.0, 40.0, 0.0, 128.0, 128.0, 64.0, 1.0, 2.0)
    _ = formulas.fourth(f.tensor) + formulas.fourth(f.l2) + formulas.fourth(f.latency)
    formulas.fourth_root(number["root"] + 1.0)
    one: Any = number["other"]
    _ = sum(formulas.fourth(one * 2.0) for _ in range(5)) + np.minimum(np.maximum(one, 1.0), 1.0) * one * 2.0
    members = np.diff(t.product_starts)
    times = {
        "gemm": int(t.choices.sum()),
        "flash": int((t.form == FLASH).sum()),
        "other": len(t.form),
        "root": int((members * t.choices).sum() + (t.form == STREAM).sum() + (t.form == FLASH).sum()),
    }  # fmt: skip
    total: Counter[str] = Counter({SIMPLE: 2 * len(t.read_bytes) + 5 * len(t.distance), DIVISION: len(t.distance)})
    for name, counts in once.items():
        total.update({kind: count * times[name] for kind, count in counts.items()})
    return total


def _simple(a: NDArray[np.float64], b: NDArray[np.float64], repeats: int) -> None:
    for _ in range(repeats):
        for i in range(len(a)):
            x = a[i]
            for _ in range(8):
                x = x * 0.999 + b[i]
            a[i] = x


def _division(a: NDArray[np.float64], b: NDArray[np.float64], repeats: int) -> None:
    for _ in range(repeats):
        for i in range(len(a)):
            a[i] = b[i] / a[i]


def _root(a: NDArray[np.float64], b: NDArray[np.float64], repeats: int) -> None:
    for _ in range(repeats):
        for i in range(len(a)):
            a[i] = np.sqrt(a[i] + b[i])


def rates() -> dict[str, float]:
    """Operations a second of one core by kind, and bytes a second that a copy reads and writes."""
    import numba

    options: Any = {"fastmath": {"nnan", "nsz", "contract"}, "error_model": "numpy"}
    found = {}
    for name, body, each in ((SIMPLE, _simple, 16), (DIVISION, _division, 1), (ROOT, _root, 1)):
        loop: Callable[..., None] = numba.njit(**options)(body)
        a, b = np.full(BLOCK, 1.5), np.full(BLOCK, 1.25)
        found[name] = BLOCK * REPEATS * each / _seconds(loop, a, b, REPEATS)
    source, target = np.ones(COPIED), np.ones(COPIED)
    found["bytes"] = 2 * source.nbytes / _seconds(np.copyto, target, source)
    return found


def limits() -> dict[str, dict[str, Any]]:
    """Entries for benchmarks/results/latest.json: shares of the arithmetic and of the memory limit of one core."""
    import numba

    from benchmarks.run import EXAMPLE, varied

    workload = prepare(load(EXAMPLE))
    columns = stack(workload, varied(workload, DESIGNS))
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        seconds = _seconds(compiled.price, workload.packed, columns) / DESIGNS
    finally:
        numba.set_num_threads(threads)
    counts, at = work(workload), rates()
    each = {kind: counts[kind] / at[kind] for kind in (SIMPLE, DIVISION, ROOT)}
    moved = 8.0 * (workload.packed.rows + 40) / at["bytes"]  # times of the rows, and the fields of a design
    command = "python -m benchmarks.limits"
    detail = {"operations": dict(counts), "rates": at, "seconds_at_rates": each, "seconds": seconds}
    return {
        "price_share_of_arithmetic_limit": _entry(sum(each.values()) / seconds, command) | {"detail": detail},
        "price_share_of_memory_limit": _entry(moved / seconds, command),
    }


def sentence(found: dict[str, Any]) -> str:
    """Of docs/search.md, from the entries of benchmarks/results/latest.json."""
    entry = found["price_share_of_arithmetic_limit"]
    d = entry["detail"]
    counts, each = d["operations"], d["seconds_at_rates"]
    per = {kind: f"{1e6 * each[kind]:.2f} us" for kind in each}
    most = found["machine"]["cores"] / sum(each.values())
    arithmetic, memory = (100 * found[f"price_share_of_{name}_limit"]["value"] for name in ("arithmetic", "memory"))
    cores = found["machine"]["cores"]
    return (
        f"One design takes {1e6 * d['seconds']:.2f} us of one core: {counts[SIMPLE]:,} simple operations ({per[SIMPLE]} at this"
        f" machine's rate), {counts[DIVISION]:,} divisions ({per[DIVISION]}) and {counts[ROOT]:,} square roots ({per[ROOT]})."
        f" That is {arithmetic:.0f} % of what the arithmetic allows and {memory:.0f} % of what the memory allows: divisions and"
        f" roots bound it. {most:,.0f} designs/s is what these formulas can reach on {cores} such cores, when every field of"
        " every design differs.\n"
    )


def page(text: str, found: dict[str, Any]) -> str:
    """docs/search.md with the sentence between its marks."""
    head, _, rest = text.partition(BEGIN)
    return head + BEGIN + sentence(found) + END + rest.partition(END)[2]


def _entry(value: float, command: str) -> dict[str, Any]:
    return {"value": value, "unit": "", "baseline": 1.0, "ratio": value, "command": command}


def _seconds(do: Callable[..., object], *arguments: Any) -> float:
    """The least CPU time of three calls after a first; of one thread."""
    do(*arguments)
    least = np.inf
    for _ in range(3):
        start = time.process_time()
        do(*arguments)
        least = min(least, time.process_time() - start)
    return float(least)


if __name__ == "__main__":
    print(json.dumps(limits(), indent=2))
