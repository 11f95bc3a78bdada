"""Text encoders at their published sizes, as stages of a pipeline. torch and transformers are imported when called.

Written from the config.json of the checkpoints named at each function, checked by their parameter totals. A mask of a
padded prompt is passed ready-made, as booleans [batch, 1, length, length]: the few kernels that build it (a hundredth of a
megabyte) are left out, since the library looks at its values on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workloads.model import Stage
from workloads.parts.meta import meta, on_meta

CLIP_LEN = 77  # tokens; max_position_embeddings of every CLIP text encoder
T5_WIDTH = 4096  # google/t5-v1_1-xxl, d_model; google/umt5-xxl too


def encoder(
    name: str, build: Callable[[], Any], batch: int, length: int, prompts: int, *, mask: bool = False, again: str = ""
) -> Stage:
    """The stage that encodes `prompts` prompts (with guidance also the negative one) of a batch, padded to `length` tokens.

    mask: the encoder is told which tokens are padding. again: goes before the name of a stage that runs the same weights.
    """

    def inputs() -> tuple[tuple[Any, ...], dict[str, Any]]:
        told = {"attention_mask": meta("bool", batch, 1, length, length)} if mask else {}
        return (meta("int64", batch, length),), told

    return Stage(again + name, name, prompts, build, inputs, frames=0)


def t5_xxl(dtype: str) -> Any:
    """T5 v1.1 XXL's encoder: 24 layers, width 4096, 64 heads of 64, gated GELU of 10240 (google/t5-v1_1-xxl)."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=32128, d_model=T5_WIDTH, d_ff=10240, d_kv=64, num_heads=64, num_layers=24,
        relative_attention_num_buckets=32, relative_attention_max_distance=128, feed_forward_proj="gated-gelu",
        is_encoder_decoder=False, use_cache=False, attn_implementation="sdpa",
    )  # fmt: skip
    return on_meta(lambda: T5EncoderModel(config), dtype)


def umt5_xxl(dtype: str) -> Any:
    """UMT5 XXL's encoder: T5's with 256384 words and a position bias in every layer (google/umt5-xxl)."""
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(
        vocab_size=256384, d_model=T5_WIDTH, d_ff=10240, d_kv=64, num_heads=64, num_layers=24,
        relative_attention_num_buckets=32, relative_attention_max_distance=128, feed_forward_proj="gated-gelu",
        is_encoder_decoder=False, use_cache=False, attn_implementation="sdpa",
    )  # fmt: skip
    return on_meta(lambda: UMT5EncoderModel(config), dtype)


def clip_l(dtype: str) -> Any:
    """CLIP ViT-L/14's text transformer with its projection: 12 layers, width 768 (openai/clip-vit-large-patch14)."""
    return _clip(dtype, 768, 3072, 12, 12, "quick_gelu")


def clip_g(dtype: str) -> Any:
    """OpenCLIP ViT-bigG/14's text transformer with its projection: 32 layers, width 1280 (laion/CLIP-ViT-bigG-14)."""
    return _clip(dtype, 1280, 5120, 32, 20, "gelu")


def _clip(dtype: str, width: int, inner: int, layers: int, heads: int, activation: str) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, max_position_embeddings=CLIP_LEN, hidden_act=activation, layer_norm_eps=1e-5,
        projection_dim=width, bos_token_id=0, eos_token_id=2, pad_token_id=1, attn_implementation="sdpa",
    )  # fmt: skip
    return on_meta(lambda: CLIPTextModelWithProjection(config), dtype)


def llama_3_8b(dtype: str) -> Any:
    """The text part of LLaVA-Llama-3 8B: 32 layers, width 4096, 32 heads, 8 of keys (xtuner/llava-llama-3-8b-v1_1)."""
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=128320, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, rms_norm_eps=1e-5, rope_theta=500000.0, max_position_embeddings=8192, use_cache=False,
        attn_implementation="sdpa",
    )  # fmt: skip
    return on_meta(lambda: LlamaModel(config), dtype)
