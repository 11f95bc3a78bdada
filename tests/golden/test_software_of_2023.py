"""What torch of 2023 does slowly, beside published times: the first FlashAttention, broadcasting and strided copies, unfused
attention, one query on a long cache, the host by operator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hwspecs import device, software
from hwspecs.rates import rates
from sim.cost import cost
from tests.build import kernels, trace
from workloads.kind import DISPATCH, Dims, Work, kinds
from workloads.lower import column, lower
from workloads.ops.elementwise import arithmetic


def dims(kind: str, **values: int) -> Dims:
    """One operator as columns of one row; what is not given is 0."""
    names = kinds()[kind].dims
    return Dims({n: np.array([values.get(n, 0)], dtype=np.int64) for n in names})


def seconds(work: Any, dtype: str, on: str) -> float:
    return float(cost(column(work, dtype, np.array([np.inf])), rates(device.load(on))).time[0])


@pytest.mark.parametrize(
    ("batch", "heads", "head_dim", "published"),
    [(64, 12, 32, 1792e-6), (64, 16, 64, 3979e-6), (16, 12, 128, 2461e-6), (64, 16, 128, 12500e-6)],
)
def test_flash_1_meets_published_times(batch: int, heads: int, head_dim: int, published: float) -> None:
    """fxmarty/efficient-attention-benchmark, README: flash-attention 1, A100-SXM4-80GB, fp16, 1024 x 1024, not causal."""
    shape = {"batch": batch, "heads": heads, "kv_heads": heads, "q_len": 1024, "kv_len": 1024, "head_dim": head_dim}
    ways = {w.name: w for w in kinds()["attention"].ways}
    d, item, eager = dims("attention", **shape), np.array([2]), software.load("pytorch-eager")
    first, second = (seconds(ways[n].rows(d, item, eager)[0], "fp16", "a100-sxm-80gb") for n in ("flash-1", "flash-2"))
    assert abs(first / published - 1.0) < 0.2
    assert first > 2.0 * second


def test_broadcasting_misses_the_bandwidth() -> None:
    """pytorch/pytorch pull request 69010: 185e9 elements a second on a V100 (1.53 GHz; ours is the PCIe part, 1.38 GHz)."""
    count = 1 << 28
    way = kinds()["elementwise"].ways[0]
    d = dims("elementwise", elements=count, read0=2 * count, read1=2 << 10, write=count)
    eager, compiled = (
        seconds(way.rows(d, np.array([2]), software.load(n))[0], "fp16", "v100-pcie")
        for n in ("pytorch-eager", "pytorch-compiled")
    )
    assert abs(count / eager / (185e9 * 1.38 / 1.53) - 1.0) < 0.1
    assert compiled < 0.7 * eager


@pytest.mark.parametrize("label", ["gelu", "silu"])
def test_instructions_of_older_lanes_come_at_one_a_lane(label: str) -> None:
    """A P100 has 64 lanes an SM as a V100 has: counted instructions take it longer by SMs and clock alone, whatever its products
    of integers take."""
    counted = arithmetic(f"aten.{label}")
    n = np.array([1 << 26])
    work = Work(label, "stream", (), 0 * n, index_ops=n * counted["eager_ops"])
    old, new = (seconds(work, "fp16", on) for on in ("p100-pcie", "v100-pcie"))
    assert old / new == pytest.approx((80 * 1.38) / (56 * 1.303), rel=0.02)


def test_gelu_in_16_bits_is_paced_by_its_instructions() -> None:
    """vidur, A100-80GB, fp16, kernel time: 325e9 elements a second above 30 us (293 to 346), where memory would allow 440e9."""
    count = 1 << 27
    way = kinds()["elementwise"].ways[0]
    d = dims("elementwise", elements=count, read0=2 * count, write=2 * count, exps=1)
    told = d.extended(**{name: [value] for name, value in kinds()["elementwise"].flags("aten.gelu").items()})
    gelu, plain = (
        seconds(way.rows(x, np.array([2]), software.load("pytorch-eager"))[0], "fp16", "a100-sxm-80gb")
        for x in (told, d)
    )
    assert abs(count / gelu / 325e9 - 1.0) < 0.07
    assert count / plain > 400e9


def test_operations_of_an_activation_by_its_label() -> None:
    flags = kinds()["elementwise"].flags
    assert flags("aten.gelu_") == flags("aten.gelu") == {"eager_ops": 57, "compiled_ops": 57}
    assert flags("aten.silu")["compiled_ops"] < flags("aten.silu")["eager_ops"]
    assert flags("aten.add") == flags("my.own") == {"eager_ops": 0, "compiled_ops": 0}


def gated(part: bool, contiguous: int = 2) -> Any:
    """gelu of one half of a projection of 2 x 2^26 elements in fp16, or of a tensor of its own size."""
    count = 1 << 26
    op = {"elements": count, "read0": 2 * count, "read1": 0, "read2": 0, "write": 2 * count, "exps": 1}
    made = trace([("elementwise", op)])
    whole = made.tensor_bytes.copy()
    whole[made.input_ids] = 2 * count * (contiguous if part else 1)
    return replace(made, tensor_bytes=whole, labels=("aten.gelu",))


@pytest.mark.parametrize(("name", "pays"), [("pytorch-eager", True), ("pytorch-compiled", False)])
def test_a_half_of_a_projection_costs_addresses(name: str, pays: bool) -> None:
    """torch's kernel for operands with gaps, compiled for sm_80: 64.5 instructions an element, of which 30.3 are gelu."""
    k = {part: lower(gated(part), software.load(name)) for part in (True, False)}
    per_element = {part: float(k[part].index_ops[0]) / 2 / (1 << 26) for part in k}
    assert per_element[False] == 28.5
    assert per_element[True] == pytest.approx(64.5 if pays else 28.5, rel=0.02)
    a100 = rates(device.load("a100-sxm-80gb"))
    slow, fast = (float(cost(k[part], a100).time[0]) for part in (True, False))
    assert (slow > 1.8 * fast) if pays else slow == fast


def test_an_activation_inside_another_kernel_overlaps_with_its_memory() -> None:
    norm = {"n": 2, "c": 320, "positions": 4096, "groups": 32, "affine": 1}
    size = 2 * 2 * 320 * 4096
    silu = {"elements": size // 2, "read0": size, "read1": 0, "read2": 0, "write": size, "exps": 1}
    made = trace([("group_norm", norm), ("elementwise", silu)])
    inputs = made.input_ids.copy()
    inputs[3] = made.output_ids[0]  # of the second call: what the first wrote
    made = replace(made, input_ids=inputs, labels=("aten.silu",))
    for name, launches, operations in (("pytorch-eager", 1.0, 50.0), ("pytorch-compiled", 0.0, 0.0)):
        k = lower(made, software.load(name))
        (own,) = (i for i, kernel in enumerate(k.name) if kernel == "elementwise")
        assert (k.launches[own], k.index_ops[own]) == (launches, operations * size / 2)


def test_only_equal_parts_have_gaps() -> None:
    """What is left of a sequence when a few tokens are taken off the front of one sample lies in one piece."""
    made = gated(True)
    almost = made.tensor_bytes.copy()
    almost[made.input_ids] = made.tensor_bytes[made.input_ids] // 2 + 512
    eager = software.load("pytorch-eager")
    whole = float(lower(gated(False), eager).index_ops[0])
    assert float(lower(replace(made, tensor_bytes=almost), eager).index_ops[0]) == whole
    assert float(lower(made, eager).index_ops[0]) > whole


@pytest.mark.parametrize(
    ("cols", "instructions"),
    [(4096, 38), (1024, 42 + 30 / 32), (128, 42 + 30 / 4), (16, 42 + 30)],
)
def test_softmax_by_the_kernel_that_torch_takes(cols: int, instructions: float) -> None:
    rows = (1 << 26) // cols
    k = kernels([("softmax", {"rows": rows, "cols": cols})])
    assert float(k.index_ops[0]) == 2 * instructions * rows * cols


def test_layer_norm_in_16_bits_is_paced_by_its_instructions_too() -> None:
    """vidur, A100-80GB, torch's layer norm, fp16, rows of 2049 to 4096, kernel time above 30 us: 954 GB/s in the median. Ours is
    faster by a seventh, since fp32 softmax and layer norm reach more of the bandwidth than fp16 layer norm."""
    rows, cols = 1 << 15, 4096
    moved = 2 * 2 * rows * cols
    k = kernels([("layer_norm", {"rows": rows, "cols": cols, "affine": 1})])
    priced = cost(k, rates(device.load("a100-sxm-80gb")))
    assert abs(moved / float(priced.time[0]) / 954e9 - 1.0) < 0.16


@pytest.mark.parametrize(("run", "operations"), [(0, 82), (128, 150)])
def test_concatenations_find_the_place_of_every_element(run: int, operations: int) -> None:
    """Shape.cu: 35 and 47 instructions in three and four dimensions; a compiler writes its own."""
    size = 1 << 28
    moved = dims("permute", read0=size, read1=size, write=2 * size, run=run)
    told = moved.extended(**{name: [value] for name, value in kinds()["permute"].flags("aten.cat").items()})
    way = kinds()["permute"].ways[0]
    eager, compiled = (way.rows(told, np.array([2]), software.load(f"pytorch-{n}"))[0] for n in ("eager", "compiled"))
    assert (float(np.max(eager.index_ops)), float(np.max(compiled.index_ops))) == (operations * size, 0.0)
    slow, fast = (seconds(work, "fp16", "a100-sxm-80gb") for work in (eager, compiled))
    assert slow > 1.4 * fast
    padded = moved.extended(**{n: [v] for n, v in kinds()["permute"].flags("aten.constant_pad_nd").items()})
    assert float(np.max(way.rows(padded, np.array([2]), software.load("pytorch-eager"))[0].index_ops)) == 0.0


def test_a_warp_works_on_whole_powers_of_two() -> None:
    """Rows of 77 keys are 128 lanes' elements."""
    of = {cols: kernels([("softmax", {"rows": 4096, "cols": cols})]) for cols in (77, 128)}
    assert float(of[77].index_ops[0]) == float(of[128].index_ops[0])
    assert float(of[77].exp_ops[0]) == float(of[128].exp_ops[0]) == 2 * 4096 * 128


def test_a_tensor_of_another_dtype_does_not_broadcast() -> None:
    count = 1 << 20
    way, eager = kinds()["elementwise"].ways[0], software.load("pytorch-eager")
    mixed = dims("elementwise", elements=count, read0=4 * count, read1=2 * count, write=4 * count)
    scalar = dims("elementwise", elements=count, read0=4 * count, read1=4, write=4 * count)
    assert all(np.all(way.rows(d, np.array([4]), eager)[0].vector_flops == count) for d in (mixed, scalar))


def test_a_module_costs_the_host_more_than_a_function() -> None:
    assert 1.0 < DISPATCH["bmm"] < DISPATCH["softmax"] < DISPATCH["layer_norm"] < DISPATCH["linear"] < DISPATCH["conv"]
    assert {w.dispatch for w in kinds()["elementwise"].ways} == {1.0}


def test_strided_copies_and_group_norm_pay_for_addresses_as_broadcasting_does() -> None:
    """The loop of torch's elementwise_kernel with an OffsetCalculator, compiled for sm_80: 8 integer instructions a dimension."""
    count, eager, compiled = 1 << 28, software.load("pytorch-eager"), software.load("pytorch-compiled")
    copy, norm = kinds()["permute"].ways[0], kinds()["group_norm"].ways[0]
    moved = {"read0": 2 * count, "write": 2 * count, "run": 128}
    on_lanes = count * 85 / (108 * 1.41e9 * 128)
    for strided in (True, False):
        d = dims("permute", **moved).extended(iterated=[int(strided)])
        time = seconds(copy.rows(d, np.array([2]), eager)[0], "fp16", "a100-sxm-80gb")
        assert (time > on_lanes) == strided
    d = dims("group_norm", n=2, c=256, positions=count // 512, groups=32, affine=1)
    passes = [way[-1] for way in (norm.rows(d, np.array([2]), s) for s in (eager, compiled))]
    assert [float(np.max(p.index_ops)) for p in passes] == [85.0 * count, 0.0]


@pytest.mark.parametrize(
    ("batch", "heads", "length", "head_dim", "published"),
    [
        (64, 16, 1024, 64, 13884e-6),
        (64, 16, 1024, 128, 16654e-6),
        (16, 24, 512, 64, 1476e-6),
        (64, 24, 256, 32, 1408e-6),
    ],
)
def test_unfused_attention_beside_published_times(
    batch: int, heads: int, length: int, head_dim: int, published: float
) -> None:
    """fxmarty/efficient-attention-benchmark, README: eager, A100-SXM4-80GB, fp16; products, scale and softmax as operators.

    Nothing is fitted to these. Ours is too fast by 6 % at head_dim 32 and up to 18 % at 128: that script's matmul copies the
    transposed keys too, element by element and against the grain.
    """
    op = {"batch": batch, "heads": heads, "kv_heads": heads, "q_len": length, "kv_len": length, "head_dim": head_dim}
    priced = cost(kernels([("attention", OFF | op)], attention="unfused"), rates(device.load("a100-sxm-80gb")))
    assert 0.8 < float(priced.time.sum()) / published < 1.0


OFF = {"causal": 0, "role": 0, "interleaved": 1, "mask": 0}


def test_one_query_on_a_long_cache_reads_it_near_the_bandwidth() -> None:
    """FlashAttention-2 since 2.2 splits the keys (its README): 32 heads alone leave three quarters of an A100's SMs idle."""
    op = OFF | {"batch": 1, "heads": 32, "kv_heads": 32, "q_len": 1, "kv_len": 4096, "head_dim": 128, "interleaved": 0}
    a100 = rates(device.load("a100-sxm-80gb"))
    k = kernels([("attention", op)], attention="flash-2")
    priced = cost(k, a100)
    by_way = {k.way[s]: float(priced.time[s:e].sum()) for s, e in zip(k.starts, [*k.starts[1:], len(k)], strict=True)}
    best = min(by_way, key=lambda way: by_way[way])
    moved = 2 * 2 * 32 * 4096 * 128
    assert best.startswith("flash-2, keys in ")
    assert moved / 2.039e12 < by_way[best] < min(2 * moved / 2.039e12, by_way["flash-2"])
    chosen = {k.way[i] for i in np.flatnonzero(priced.chosen)}
    assert chosen == {best}


def test_keys_are_not_split_where_heads_fill_the_device_or_the_kernel_is_older() -> None:
    many = OFF | {
        "batch": 64,
        "heads": 32,
        "kv_heads": 32,
        "q_len": 1,
        "kv_len": 4096,
        "head_dim": 128,
        "interleaved": 0,
    }
    k = kernels([("attention", many)], attention="flash-2")
    priced = cost(k, rates(device.load("a100-sxm-80gb")))
    assert {k.way[i] for i in np.flatnonzero(priced.chosen)} == {"flash-2"}
    assert set(kernels([("attention", many)], attention="flash-1").way) == {"flash-1"}
    long = many | {"q_len": 4096}
    assert set(kernels([("attention", long)], attention="flash-2").way) == {"flash-2"}
