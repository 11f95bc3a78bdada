"""What is timed and how: operators, versions of torch, spread, files that survive a cut at any byte."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib import measure, measure_lab, measure_modules, measure_networks
from calib.measure_files import Rows
from calib.measure_lab import BrokenError, Lab, UnsupportedError, failure, lab, prepare, summary, visit
from calib.measure_ops import OPERATORS, build, probes
from tests.calib.plans import ATTENTION, SMALL

torch = pytest.importorskip("torch")


@pytest.fixture
def machine() -> Iterator[Lab]:
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    yield lab("cpu", 0)
    torch.set_num_threads(threads)
    torch.set_grad_enabled(grad)


def test_every_operator_is_tried() -> None:
    assert {str(row["op"]) for row in SMALL} == set(OPERATORS) - {"conv_transpose1d", "conv_transpose3d"}


@pytest.mark.parametrize(
    "row", SMALL, ids=lambda row: f"{row['op']}-{row.get('implementation', row.get('b_layout', ''))}"
)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_operators_run(machine: Lab, row: Mapping[str, Any], dtype: str) -> None:
    make, call = build(machine, {"dtype": dtype, **row})
    result = call(*make())
    assert result.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    assert torch.isfinite(result.float()).all()


def test_results_are_those_of_the_operator(machine: Lab) -> None:
    make, unfused = build(
        machine, {"op": "encoder", "dtype": "fp32", **ATTENTION, "implementation": "unfused", "layout": "bshd"}
    )
    _, fused = build(
        machine, {"op": "encoder", "dtype": "fp32", **ATTENTION, "implementation": "sdpa", "layout": "bshd"}
    )
    operands = make()
    assert torch.allclose(unfused(*operands).transpose(1, 2), fused(*operands), atol=1e-5)
    make, call = build(machine, {"op": "permute", "dtype": "fp32", "rows": 3, "cols": 5, "run": 2})
    (x,) = make()
    assert call(x).shape == (5, 3, 2)
    assert call(x).is_contiguous()
    make, _ = build(machine, {"op": "bmm", "dtype": "fp32", "batch": 2, "m": 3, "n": 5, "k": 7, "b_layout": "nk"})
    assert [tuple(t.shape) for t in make()] == [(2, 3, 7), (2, 5, 7)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"op": "fold"}, "unknown operator 'fold'; known: add, add_broadcast, "),
        ({"op": "linear", "m": 3, "n": 5}, "linear needs 'k', which is empty"),
        (
            {"op": "encoder", **ATTENTION, "implementation": "magic"},
            "unknown implementation 'magic'; known: unfused, sdpa",
        ),
        (
            {"op": "prefill", **ATTENTION, "causal": 1, "implementation": "unfused"},
            "unfused attention is timed without a mask and with as many kv_heads as heads",
        ),
        ({"op": "softmax", "rows": 3, "cols": 5, "dtype": "fp6"}, " has no dtype fp6"),
    ],
)
def test_what_cannot_be_built_says_why(machine: Lab, row: Mapping[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        build(machine, {"dtype": "fp32", **row})[0]()
    assert reason in str(caught.value)


def test_an_unknown_condition(machine: Lab) -> None:
    with pytest.raises(UnsupportedError, match="unknown condition 'tepid'; expected cold, warm or eager"):
        prepare(machine, build(machine, {"op": "softmax", "dtype": "fp32", "rows": 3, "cols": 5}), "tepid")


def test_cold_rotates_through_copies_or_flushes(machine: Lab) -> None:
    def of(elements: int) -> Any:
        return prepare(machine, build(machine, {"op": "copy", "dtype": "fp32", "rows": 1, "cols": elements}), "cold")

    large, small = of(1 << 21), of(1 << 10)
    assert large.method == "thread-rotate"
    assert (large.per - 1) * large.footprint >= measure_lab.COLD_CACHES * machine.cache
    assert (small.method, small.per) == ("thread-flush", 1)
    assert visit(machine, small)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"), "oom"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), "oom"),
        (MemoryError(), "oom"),
        (NotImplementedError("not for 'Half'"), "unsupported"),
        (RuntimeError("No available kernel. Aborting execution."), "unsupported"),
        (UnsupportedError("nothing"), "unsupported"),
        (ZeroDivisionError("division by zero"), "error"),
    ],
)
def test_failures_are_told_apart(machine: Lab, error: Exception, status: str) -> None:
    found = failure(machine, error)
    assert found["status"] == status
    assert found["reason"]


def test_a_device_that_no_longer_answers_ends_the_campaign(machine: Lab) -> None:
    def stuck() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    broken = replace(machine, torch=SimpleNamespace(cuda=SimpleNamespace(synchronize=stuck)), kind="cuda")
    with pytest.raises(BrokenError, match="the device stopped answering: CUDA error: an illegal"):
        failure(broken, RuntimeError("CUDA error: an illegal memory access was encountered\nmore"))


# ---- versions of torch ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pair"), [("2.4.0", (2, 4)), ("2.13.0+cpu", (2, 13)), ("2.9.0a0+git", (2, 9)), ("3.0rc1", (3, 0))]
)
def test_version(text: str, pair: tuple[int, int]) -> None:
    assert measure_lab.version(SimpleNamespace(__version__=text)) == pair


def test_a_backend_that_this_torch_lacks(monkeypatch: pytest.MonkeyPatch, machine: Lab) -> None:
    monkeypatch.setattr(torch.nn.attention, "SDPBackend", SimpleNamespace(MATH=0))
    with pytest.raises(UnsupportedError, match="has no attention backend CUDNN_ATTENTION"):
        build(machine, {"op": "encoder", "dtype": "fp32", **ATTENTION, "implementation": "sdpa_cudnn"})


def test_products_that_this_torch_lacks(monkeypatch: pytest.MonkeyPatch, machine: Lab) -> None:
    monkeypatch.delattr(torch, "_int_mm", raising=False)
    int8 = next(p for p in probes("cpu") if p[:2] == ("gemm", "int8"))
    with pytest.raises(UnsupportedError, match=r"has no int8 product \(_int_mm\)"):
        int8[6](machine)
    monkeypatch.delattr(torch, "float8_e4m3fn")
    with pytest.raises(UnsupportedError, match="has no dtype fp8"):
        machine.new("fp8", 2)


def test_what_does_not_capture_is_timed_by_events(machine: Lab) -> None:
    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            pass

        def elapsed_time(self, _: Event) -> float:
            return 0.25

    def refuse(*_: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    cuda = SimpleNamespace(
        Event=Event, synchronize=lambda: None, Stream=refuse, mem_get_info=lambda: (1 << 30, 1 << 30)
    )
    fake = replace(machine, torch=SimpleNamespace(cuda=cuda, Tensor=torch.Tensor), kind="cuda")
    x = torch.ones(4)
    ready = prepare(fake, (lambda: (x,), lambda y: y + 1), "warm")
    assert (ready.method, ready.timing) == ("events", "with_launch")
    assert summary([visit(fake, ready)] * 2, "cuda")["latency_us"] == pytest.approx(250 / ready.per)


def test_clocks_are_read_or_left_empty(monkeypatch: pytest.MonkeyPatch, machine: Lab) -> None:
    assert measure_lab.clocks(machine) == [""] * 4
    cuda = SimpleNamespace(get_device_properties=lambda _: SimpleNamespace(uuid="ab-12"))
    gpu = replace(machine, kind="cuda", torch=SimpleNamespace(cuda=cuda))
    asked: list[list[str]] = []

    def run(query: list[str], **_: Any) -> Any:
        asked.append(query)
        return SimpleNamespace(stdout="1980, 3201, 410.5, 61\n")

    monkeypatch.setattr("calib.measure_lab.subprocess.run", run)
    assert measure_lab.clocks(gpu) == ["1980", "3201", "410.5", "61"]
    assert asked[0][1:3] == ["-i", "GPU-ab-12"]
    monkeypatch.setattr("calib.measure_lab.subprocess.run", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    assert measure_lab.clocks(gpu) == [""] * 4


# ---- spread and files -------------------------------------------------------------------------------------------------

TIMES = st.lists(st.floats(1.0, 1e6), min_size=3, max_size=12)


@given(st.lists(TIMES, min_size=2, max_size=6), st.floats(0.01, 100))
def test_spread_is_relative_and_latency_within_the_samples(visits: list[list[float]], factor: float) -> None:
    one, scaled = summary(visits, "cuda"), summary([[s * factor for s in v] for v in visits], "cuda")
    assert scaled["latency_us"] == pytest.approx(one["latency_us"] * factor)
    assert scaled["spread"] == pytest.approx(one["spread"], abs=1e-9)
    assert min(map(min, visits)) <= one["latency_us"] <= max(map(max, visits))
    assert one["spread"] >= 0
    assert summary(visits, "cpu")["spread"] >= measure_lab.FLOOR["cpu"]


def test_spread_covers_what_differs_between_campaigns() -> None:
    """Visits that differ by 3 % at random: two campaigns agree within their spreads in at least 90 % of cases."""
    rng = np.random.default_rng(0)

    def latency() -> tuple[float, float]:
        found = summary([list(100 * (1 + 0.03 * rng.standard_normal()) + rng.random(10)) for _ in range(3)], "cuda")
        return found["latency_us"], found["spread"]

    pairs = [(latency(), latency()) for _ in range(300)]
    agree = sum(abs(a[0] - b[0]) <= a[1] * a[0] + b[1] * b[0] for a, b in pairs)
    assert agree >= 270


def test_one_visit_has_no_spread() -> None:
    assert math.isinf(summary([[1.0, 2.0, 3.0]], "cuda")["spread"])


@given(st.integers(0, 10_000), st.lists(st.text(max_size=12), min_size=1, max_size=6))
def test_a_file_cut_at_any_byte_goes_on(tmp_path_factory: pytest.TempPathFactory, cut: int, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    rows = Rows(path, ("id", "text", "status"), ("id",))
    for i, text in enumerate(texts):
        rows.append({"id": i, "text": text, "status": "ok"})
    whole = path.read_bytes()
    path.write_bytes(whole[: cut % (len(whole) + 1)])
    again = Rows(path, ("id", "text", "status"), ("id",))
    assert len(again.done) == max(0, path.read_bytes().count(b"\n") - 1)
    missing = [i for i in range(len(texts)) if not again.has({"id": i})]
    assert missing == list(range(len(again.done), len(texts)))  # the first ones are kept, in order
    again.extend(
        [{"id": i, "text": texts[i], "status": "ok"} for i in range(len(texts))]
    )  # those that are there are left out
    with path.open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["id"] for row in read] == [str(i) for i in range(len(texts))]
    assert [row["text"] for row in read] == [" ".join(text.split()) for text in texts]


# ---- modules ----------------------------------------------------------------------------------------------------------


def test_the_plain_unet_is_stable_diffusion_s() -> None:
    """859,520,964 parameters: those of UNet2DConditionModel with the published configuration."""
    with torch.device("meta"):
        module = measure_networks._plain(torch, measure_networks.SD15, measure_networks._attend(torch, "sdpa"))
        assert measure_networks.parameters(module) == 859_520_964
        assert module(torch.empty(2, 4, 64, 64), torch.empty(2), torch.empty(2, 77, 768)).shape == (2, 4, 64, 64)


@pytest.mark.parametrize("name", measure_networks.NETWORKS["cpu"])
def test_networks_do_the_same_fused_and_unfused(machine: Lab, name: str) -> None:
    outputs = []
    for attention in ("sdpa", "unfused"):
        torch.manual_seed(1)
        module, inputs = measure_networks.network(machine, name, "plain", attention, "fp32")
        torch.manual_seed(2)
        operands = inputs(2)
        outputs.append(module(*operands))
        assert outputs[-1].shape == operands[0].shape
        assert operands[0].shape[0] == 2 * measure_networks.NETWORKS["cpu"][name].batch
    assert torch.allclose(*outputs, atol=1e-3)


def test_kernels_are_found_under_their_modules(machine: Lab) -> None:
    module, inputs = measure_networks.network(machine, "tiny-block", "plain", "sdpa", "fp32")
    found = list(measure_modules.profiled(machine, module, module, inputs(1)))
    places = {(cells["path"], cells["op"]) for cells in found}
    assert {("norm1", "aten::layer_norm"), ("attn.q", "aten::linear"), ("ff.0", "aten::linear")} <= places
    assert ("attn", "aten::scaled_dot_product_attention") in places
    assert all(cells["time_us"] > 0 and cells["calls"] >= 1 for cells in found)
    assert not module._modules["norm1"]._forward_hooks


def test_phases_share_the_time() -> None:
    assert {name for name, _ in measure.PHASES} == set(measure.RUN)
    assert all(a <= b for a, b in pairwise(share for _, share in measure.PHASES))
    assert measure.PHASES[-1][1] == 1.0
