"""Unfused attention as libraries write it: every model follows one, and the installed libraries' own code runs those kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tests.build import eager, trace
from workloads.baselines import BASELINES, FOLLOWS, HELD, PLAIN, SEPARATOR, columns, followed, renamed
from workloads.cache import trace_of
from workloads.capture import capture
from workloads.kind import ITEMSIZE, kinds
from workloads.lower import lower
from workloads.model import find, models

BATCH, HEADS, LENGTH, DIM = 2, 4, 96, 32
OP = {
    "batch": BATCH, "heads": HEADS, "kv_heads": HEADS, "q_len": LENGTH, "kv_len": LENGTH, "head_dim": DIM, "causal": 0,
    "role": 0, "interleaved": 1, "mask": 0,
}  # fmt: skip
SCORES = BATCH * HEADS * LENGTH * LENGTH
NONE: Mapping[str, int] = {}


def launched(
    baseline: str, dtype: str = "fp16", fusion: str = "eager", held: bool = False, changes: Mapping[str, int] = NONE
) -> dict[str, Any]:
    """Kernel name -> (bytes read, bytes written, dtype) of what unfused attention launches."""
    label = SEPARATOR.join(("aten.scaled_dot_product_attention", baseline, *((HELD,) if held else ())))
    told = replace(trace([("attention", {**OP, **changes})], dtype), labels=(label,))
    k = lower(told, eager(attention="unfused", fusion=fusion))
    return {
        k.name[i]: (int(k.reads[:, i].sum()), int(k.write_bytes[i]), k.dtype[i])
        for i in np.flatnonzero(k.launches * (k.write_bytes > 0))
    }


@pytest.mark.parametrize(
    ("baseline", "dtype", "between"),
    [
        (PLAIN, "fp16", ["scale", "softmax"]),
        ("diffusers", "fp16", ["softmax"]),
        ("muse-maskgit", "bf16", ["scale", "softmax"]),
        ("transformers llama", "fp16", ["scale", "softmax", "from fp32"]),
        ("transformers llama", "bf16", ["scale", "scores to fp32", "softmax", "from fp32"]),
        ("transformers llama", "fp32", ["scale", "softmax"]),
        ("transformers t5", "fp16", ["scores to fp32", "softmax", "from fp32"]),
        ("guided-diffusion", "fp16", ["scores to fp32", "softmax", "from fp32"]),
    ],
)
def test_kernels_between_the_products(baseline: str, dtype: str, between: list[str]) -> None:
    names = list(launched(baseline, dtype))
    assert names[names.index("q k^t") + 1 : names.index("p v")] == between


def test_a_compiler_leaves_one_kernel_between_the_products() -> None:
    for name in BASELINES:
        names = list(launched(name, fusion="pointwise", changes={"causal": 1}))
        assert names[names.index("q k^t") + 1 : names.index("p v")] == ["softmax"]


def test_bytes_of_the_casts() -> None:
    found = launched("transformers t5")
    assert found["scores to fp32"][:2] == (2 * SCORES, 4 * SCORES)
    assert found["softmax"][:2] == (4 * SCORES, 4 * SCORES)
    assert found["from fp32"][:2] == (4 * SCORES, 2 * SCORES)
    asked = launched("transformers llama")  # of fp16, torch casts inside the softmax
    assert asked["softmax"][:2] == (2 * SCORES, 4 * SCORES)


def test_a_causal_mask_is_a_kernel_but_at_decode_only_where_the_library_adds_it_there() -> None:
    assert "mask" in launched("transformers clip", changes={"causal": 1})
    assert "mask" not in launched("transformers clip", changes={"causal": 0})
    one = {"q_len": 1, "kv_len": LENGTH}
    assert "mask" in launched("transformers llama", held=True, changes=one)
    assert "mask" not in launched("parti", held=True, changes=one)


def test_heads_are_copied_apart_where_they_cannot_be_viewed() -> None:
    assert {"q heads", "k heads", "v heads", "output heads"} <= set(launched("diffusers"))
    assert {"q heads", "k heads"}.isdisjoint(launched("diffusers", changes={"batch": 1}))
    assert {"q heads", "k heads", "output heads"}.isdisjoint(launched("parti", held=True, changes={"q_len": 1}))


def test_keys_of_grouped_heads_are_repeated_where_the_library_does() -> None:
    grouped = {"heads": HEADS, "kv_heads": 1, "batch": 1}
    keys = 2 * LENGTH * DIM
    assert launched("transformers llama", held=True, changes=grouped)["k heads"][:2] == (keys, HEADS * keys)
    assert "k heads" not in launched("diffusers", held=True, changes=grouped)


def test_upcast_attention_is_a_product_in_fp32() -> None:
    found = launched("diffusers upcast")
    assert found["q k^t"] == (2 * 4 * SCORES // LENGTH * DIM, 4 * SCORES, "fp32")
    assert found["p v"][2] == "fp16"
    assert found["from fp32"][:2] == (4 * SCORES, 2 * SCORES)
    assert {"q to fp32", "k to fp32"} <= set(found)
    assert {"q to fp32", "k to fp32", "from fp32"}.isdisjoint(launched("diffusers upcast", "fp32"))


def test_reads_name_bytes_that_were_written() -> None:
    """What a kernel reads of the one before it is what that one wrote."""
    for name in BASELINES:
        for dtype in ("fp16", "bf16", "fp32"):
            found = launched(name, dtype, changes={"causal": 1})
            names = [n for n in found if n not in ("output heads",)]
            chain = names[names.index("q k^t") : names.index("p v")]
            mask = ITEMSIZE[dtype] * LENGTH * LENGTH
            for before, after in pairwise(chain):
                assert found[after][0] - (mask if after == "mask" else 0) == found[before][1], (name, dtype, after)


def test_every_built_in_model_follows_a_library() -> None:
    for model in models().values():
        for stage in model.stages(model.request()):
            assert followed(stage.build) != PLAIN, f"{model.id}, {stage.name}"
    assert set(FOLLOWS.values()) <= set(BASELINES)


def test_labels_of_a_trace() -> None:
    found = trace_of("llama-2-7b", find("llama-2-7b").request(prompt_len=64, output_len=2))
    labels = {found.labels[i] for i in found.op_label[found.ops_of("attention")]}
    assert labels == {"aten.scaled_dot_product_attention, transformers llama, held keys"}
    assert columns("anything else") == columns(f"x, {PLAIN}")
    assert not any(columns("anything else").values())


def over_scores(module: Any, *inputs: Any, **known: Any) -> Counter[str]:
    """Kinds of kernels that a module runs over its scores, by the operator that writes as many values."""
    calls = capture(lambda: module(*inputs, **known)).calls
    found: Counter[str] = Counter()
    for call in calls:
        d = dict(zip(kinds()[call.kind].dims, call.dims, strict=True))
        if call.kind == "softmax" and d["rows"] * d["cols"] == SCORES:
            found["softmax"] += 1
        if call.kind == "elementwise" and d["elements"] == SCORES:
            found["elementwise"] += 1
    return found


def ours(baseline: str, dtype: str, changes: Mapping[str, int] = NONE) -> Counter[str]:
    names = list(launched(baseline, dtype, changes=changes))
    between = names[names.index("q k^t") + 1 : names.index("p v")]
    return Counter("softmax" if n == "softmax" else "elementwise" for n in between)


def test_diffusers_runs_the_kernels_that_its_baseline_says() -> None:
    torch = pytest.importorskip("torch")
    from diffusers.models.attention_processor import Attention, AttnProcessor

    with torch.device("meta"):
        module = Attention(HEADS * DIM, heads=HEADS, dim_head=DIM, processor=AttnProcessor()).to(torch.float16)
        x = torch.empty(BATCH, LENGTH, HEADS * DIM, dtype=torch.float16)
    assert over_scores(module, x) == ours("diffusers", "fp16")


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_transformers_runs_the_kernels_that_its_baseline_says(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaAttention

    from workloads.dtypes import torch_dtype

    config = LlamaConfig(hidden_size=HEADS * DIM, num_attention_heads=HEADS, attn_implementation="eager")
    with torch.device("meta"):
        module = LlamaAttention(config, 0).to(torch_dtype(dtype)).eval()
        x, turn = (torch.empty(BATCH, LENGTH, n, dtype=torch_dtype(dtype)) for n in (HEADS * DIM, DIM))
        mask = torch.empty(BATCH, 1, LENGTH, LENGTH, dtype=torch_dtype(dtype))
    found = over_scores(module, x, position_embeddings=(turn, turn), attention_mask=mask)
    # On the CPU and on the meta device the cast inside softmax(dtype=float32) is an operator of its own for fp16 too.
    assert found == ours("transformers llama", "bf16", changes={"causal": 1})


def test_a_trace_renamed_runs_the_attention_of_another_library_and_keeps_what_else_a_label_says() -> None:
    told = replace(trace([("attention", OP)]), labels=("x, guided-diffusion, held keys",))
    assert renamed(told, "plain").labels == ("x, plain, held keys",)
    assert renamed(told, "") is told
    assert renamed(replace(told, labels=("aten.mm",)), "plain").labels == ("aten.mm",)
