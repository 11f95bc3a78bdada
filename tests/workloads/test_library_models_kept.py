"""What capture keeps whole, what it answers in place of values, masks and transposed convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hwspecs.software import load
from workloads.capture import CapturedCall, capture
from workloads.kept import ALL, ITEM, NONZERO, assumed
from workloads.kind import Dims, Work, kinds

META: dict[str, Any] = {"device": "meta", "dtype": torch.float16}


def empty(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, **META)


def dims(call: CapturedCall) -> dict[str, int]:
    return dict(zip(kinds()[call.kind].dims, call.dims, strict=True))


@pytest.mark.parametrize("affine", [True, False])
def test_rms_norm_is_one_call(affine: bool) -> None:
    x = empty(4, 6, 32)
    (call,) = capture(nn.RMSNorm(32, elementwise_affine=affine, **META), (x,)).calls
    assert (call.kind, call.label, dims(call)) == (
        "layer_norm", "aten._fused_rms_norm", {"rows": 24, "cols": 32, "affine": int(affine)},
    )  # fmt: skip
    assert F.rms_norm(x, (32,)).shape == torch.rms_norm(x, (32,)).shape == x.shape


def test_rms_norm_copies_an_input_that_is_not_contiguous() -> None:
    calls = capture(nn.RMSNorm(32, **META), (empty(32, 4).t(),)).calls
    assert [c.kind for c in calls] == ["permute", "layer_norm"]


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_rms_norm_with_weights_of_another_dtype_runs_as_torch_runs_it() -> None:
    calls = capture(nn.RMSNorm(32, device="meta"), (empty(4, 32),)).calls
    assert len(calls) > 3
    assert "aten._fused_rms_norm" not in {c.label for c in calls}


class Chosen(nn.Module):  # type: ignore[misc]
    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> Any:
        with torch.autocast(x.device.type, torch.float32):
            return x[torch.nonzero(mask).flatten()] * 2 if mask.any().item() else x


def test_answers_are_named_and_the_operators_recorded() -> None:
    traced = capture(Chosen(), (empty(8, 4), empty(8)), path="net", assume={NONZERO: ALL, ITEM: True})
    assert traced.assumed == (f"net: {ITEM} taken as True, 1 times", f"net: {NONZERO} taken as all, 1 times")
    assert NONZERO in {c.label for c in traced.calls}
    assert traced.tensor_bytes[traced.calls[-1].outputs[0]] == 8 * 4 * 2
    assert len(capture(Chosen(), (empty(8, 4), empty(8)), assume={ITEM: False}).calls) == 1


def test_nothing_stays_of_the_answers() -> None:
    before = torch.autocast
    with assumed({}), torch.autocast("meta", enabled=False):
        pass
    assert torch.autocast is before
    with pytest.raises(
        ValueError, match=r"assume: found 'aten.sort', expected aten.nonzero or aten._local_scalar_dense$"
    ):
        capture(Chosen(), (empty(8, 4), empty(8)), assume={"aten.sort": 1})
    assert torch.autocast is before


def work(call: CapturedCall, way: str, software: Any) -> tuple[Work, ...]:
    kind = kinds()[call.kind]
    (found,) = (w for w in kind.ways if w.name == way)
    return found.rows(Dims({k: np.array([v]) for k, v in dims(call).items()}), np.array([2]), software)


def moved(works: tuple[Work, ...], source: str) -> int:
    return sum(int(np.max(r.bytes)) for w in works for r in w.reads if r.source == source)


def test_a_mask_costs_its_bytes_and_the_flash_kernel() -> None:
    q, eager = empty(2, 4, 96, 64), load("pytorch-eager")
    mask = torch.zeros(2, 1, 1, 96, **META).expand(2, 4, 96, 96)
    plain, masked = (capture(lambda m=m: F.scaled_dot_product_attention(q, q, q, m)).calls[-1] for m in (None, mask))
    assert (dims(plain)["mask"], dims(masked)["mask"]) == (0, 2 * 96 * 2)
    for way in ("memory-efficient", "unfused"):
        more = moved(work(masked, way, eager), "input2") - moved(work(plain, way, eager), "input2")
        assert more == 2 * 96 * 2, way
    (flash,) = (w for w in kinds()["attention"].ways if w.name == "flash-2")
    columns = Dims({k: np.array([dims(plain)[k], dims(masked)[k]]) for k in dims(plain)})
    assert flash.possible(columns, np.array([2, 2])).tolist() == [True, False]
    added = [w for w in work(masked, "unfused", eager) if w.name == "mask"]
    assert int(np.max(added[0].write_bytes)) == 2 * 4 * 96 * 96 * 2


def test_a_transposed_convolution_reads_the_small_side_and_writes_the_large() -> None:
    layer, x = nn.ConvTranspose2d(8, 16, 4, 2, 1, **META), empty(1, 8, 5, 5)
    (call,) = capture(layer, (x,)).calls
    (gemm,) = (w for w in work(call, "implicit-gemm", load("pytorch-compiled")) if w.gemm)
    read = moved((gemm,), "input0") or moved((gemm,), "previous") - 8 * 16 * 16 * 2
    assert read == 8 * 5 * 5 * 2
    assert int(np.max(gemm.write_bytes)) == 16 * 10 * 10 * 2
    assert gemm.gemm is not None
    assert 2 * int(np.prod([np.max(v) for v in (gemm.gemm.m, gemm.gemm.n, gemm.gemm.k)])) == int(np.max(gemm.flops))
