"""Autoregressive decoding as a few segments: every token reads the keys and values of all tokens before it.

A pass over one token is the same operators at every position, but for `kv_len`, in which attention's FLOPs and bytes are
linear. So a decode is cut into at most POSITIONS spans of consecutive tokens; each is captured once, at the position in its
middle, and repeated for its tokens. Spans have odd lengths, so that the middle is a token's own position and the sum of kv_len
over the decode, and with it every FLOP and byte that is linear in kv_len, is exact. Latency is exact as far as it is linear too:
within a span, what rises in steps with kv_len (tiles, waves) is taken at the middle.
"""

from __future__ import annotations

from typing import Any

from workloads.parts.meta import resting

POSITIONS = 8  # spans of a decode


def decode_spans(first: int, tokens: int) -> tuple[tuple[int, int], ...]:
    """Passes with kv_len first, first + 1, ... (one for each of `tokens`) -> (kv_len, repeats) of each span, in order."""
    count = min(POSITIONS, tokens)
    count -= (tokens - count) % 2
    pairs, longer = divmod((tokens - count) // 2, count) if count else (0, 0)
    spans, start = [], first
    for index in range(count):
        length = 1 + 2 * (pairs + (index < longer))
        spans.append((start + length // 2, length))
        start += length
    return tuple(spans)


def kv_cache(
    dtype: str, layers: int, batch: int, heads: int, length: int, head_dim: int
) -> tuple[tuple[Any, Any], ...]:
    """Keys and values of every layer, [batch, heads, length, head_dim] each, on the meta device.

    They are handed in as parameters: to a capture they are data that rests in HBM from pass to pass, as weights do, and not
    something that the kernel before has just left in L2. They do not count among the module's own parameters.
    """
    shape = (batch, heads, length, head_dim)
    return tuple((resting(dtype, *shape), resting(dtype, *shape)) for _ in range(layers))


class Cache:
    """A cache of fixed size that is written in place, with the methods that transformers' models ask of theirs."""

    is_compileable = False

    def __init__(self, layers: tuple[tuple[Any, Any], ...], start: int) -> None:
        self.layers, self.start = layers, start
        self.is_sliding = [False] * len(layers)

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        """Tokens that are held already."""
        return self.start

    get_query_offset = get_seq_length

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:  # noqa: ARG002
        """(kv_len, offset of the first key) of a pass over `query_length` tokens."""
        return self.start + query_length, 0

    def update(self, key: Any, value: Any, layer_idx: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Write the new keys and values; all up to here."""
        return extend(self.layers[layer_idx], key, value, self.start)


def extend(held: tuple[Any, Any], key: Any, value: Any, start: int) -> tuple[Any, Any]:
    """Write keys and values [batch, heads, q_len, head_dim] at `start`; views of all up to there."""
    end = start + key.shape[2]
    for whole, new in zip(held, (key, value), strict=True):
        whole[:, :, start:end] = new
    return held[0][:, :, :end], held[1][:, :, :end]
