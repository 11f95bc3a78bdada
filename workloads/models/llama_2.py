"""LLaMA-2 7B, 13B and 70B: the study's language model, prefill of a prompt and decode with a KV cache.

Touvron et al., Llama 2, 2023 (arXiv 2307.09288); the numbers below are those of meta-llama/Llama-2-{7b,13b,70b}-hf/config.json.
The cache has the size of prompt and output and is written in place. The prefill gives the first token; the others are decoded
in a few spans, each at the token in its middle (see `workloads.decoding`): `decode_4000` is the token that sees 4000 keys.
Left out: sampling from the 32,000 logits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Annotated, Any

from pydantic.dataclasses import dataclass

from hwspecs.spec import CONFIG, Quantity, RuleError
from workloads.decoding import Cache, decode_spans, kv_cache
from workloads.fields import Dtype
from workloads.model import Model, Stage
from workloads.parts.meta import meta, on_meta

MAX_LEN = 4096  # config.json, max_position_embeddings
HEAD_DIM = 128  # hidden_size / num_attention_heads, the same for all
SIZES: dict[str, dict[str, int]] = {
    "7b": {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32,
    },
    "13b": {
        "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40,
        "num_key_value_heads": 40,
    },
    "70b": {
        "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
        "num_key_value_heads": 8,
    },
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Request:
    """What is asked of the model."""

    prompt_len: Annotated[int, Quantity(ge=1, le=MAX_LEN, doc="tokens of the prompt")] = 2048
    output_len: Annotated[int, Quantity(ge=1, le=MAX_LEN, doc="tokens that are generated")] = 128
    batch: Annotated[int, Quantity(ge=1, le=1024, doc="sequences at a time, all of one length")] = 1
    dtype: Dtype = "fp16"

    def __post_init__(self) -> None:
        room = MAX_LEN - self.prompt_len
        if self.output_len > room:
            text = f"found {self.output_len}, expected at most {room}: with the prompt no more than {MAX_LEN} tokens"
            raise RuleError([("output_len", text)])


def stages(size: str, request: Request) -> tuple[Stage, ...]:
    """Prefill, then the spans of the decode; all of one module."""
    build = cache(partial(language_model, size, request.dtype))
    prompt, kv = request.prompt_len, SIZES[size]["num_key_value_heads"]

    def inputs(tokens: int, kv_len: int) -> Any:
        layers = kv_cache(
            request.dtype, SIZES[size]["num_hidden_layers"], request.batch, kv, prompt + request.output_len, HEAD_DIM
        )
        ids, positions = meta("int64", request.batch, tokens), meta("int64", 1, tokens)
        held = {"past_key_values": Cache(layers, kv_len - tokens), "position_ids": positions, "use_cache": True}
        return (ids,), {**held, "logits_to_keep": 1, "return_dict": False}

    spans = decode_spans(prompt + 1, request.output_len - 1)
    return (
        Stage("prefill", "transformer", 1, build, partial(inputs, prompt, prompt)),
        *(Stage(f"decode_{kv_len}", "transformer", n, build, partial(inputs, 1, kv_len)) for kv_len, n in spans),
    )


def _stages(size: str) -> Callable[[Request], tuple[Stage, ...]]:
    def of(request: Request) -> tuple[Stage, ...]:
        return stages(size, request)

    return of


def language_model(size: str, dtype: str) -> Any:
    """Embedding, decoder layers, head; on the meta device."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32000, max_position_embeddings=MAX_LEN, rms_norm_eps=1e-5, hidden_act="silu", tie_word_embeddings=False,
        attn_implementation="sdpa", **SIZES[size],
    )  # fmt: skip
    return on_meta(lambda: LlamaForCausalLM(config), dtype)


MODELS = tuple(
    Model(
        id=f"llama-2-{size}",
        title=f"LLaMA-2 {size.upper()}",
        request=Request,
        stages=_stages(size),
        repeat_fields=(),
        sources=f"Touvron et al., arXiv 2307.09288; meta-llama/Llama-2-{size}-hf, config.json",
        libraries=("torch", "transformers"),
    )
    for size in SIZES
)
