"""Our own torch blocks run for real, at reduced width on the CPU, and do what their formulas say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads import blocks, unets
from workloads.decoding import POSITIONS, decode_spans


@pytest.fixture(autouse=True)
def _without_gradients() -> Any:
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        yield


@given(st.integers(1, 5000), st.integers(0, 5000))
def test_spans_of_a_decode_are_exact(first: int, tokens: int) -> None:
    spans = decode_spans(first, tokens)
    assert len(spans) <= POSITIONS
    assert sum(repeats for _, repeats in spans) == tokens
    assert sum(kv_len * repeats for kv_len, repeats in spans) == sum(range(first, first + tokens))
    assert all(repeats % 2 == 1 for _, repeats in spans)
    assert [kv_len for kv_len, _ in spans] == sorted({kv_len for kv_len, _ in spans})


def test_over_time_brings_everything_back() -> None:
    import torch

    x = torch.randn(2 * 3, 4, 5, 6)
    seen: list[Any] = []

    def look(rows: Any) -> Any:
        seen.append(rows)
        return rows

    back = blocks.over_time(look, x, 3)
    assert torch.equal(back, x)
    assert seen[0].shape == (2 * 5 * 6, 3, 4)
    assert torch.equal(seen[0][1 * 6 + 2], x[:3, :, 1, 2])  # the frames of the first clip's pixel (1, 2)


def test_a_pseudo_3d_convolution_is_two_3d_convolutions() -> None:
    import torch

    module = blocks.convolution()(4, 8, temporal=True)
    x = torch.randn(2, 4, 5, 6, 7)  # [clips, channels, frames, h, w]
    found = module(x.transpose(1, 2).flatten(0, 1), 5).unflatten(0, (2, 5)).transpose(1, 2)
    space = torch.nn.functional.conv3d(x, module.space.weight[:, :, None], module.space.bias, padding=(0, 1, 1))
    both = torch.nn.functional.conv3d(space, module.time.weight[..., None, None], module.time.bias, padding=(1, 0, 0))
    assert torch.allclose(found, both, atol=1e-5)


def test_a_cache_gives_what_a_causal_pass_gives() -> None:
    import torch

    layer = blocks.layer()(32, 4, 64, 16)
    x, text = torch.randn(2, 6, 32), torch.randn(2, 3, 16)
    whole = layer(x, text, causal=True)
    held = tuple(torch.zeros(2, 4, 6, 8) for _ in range(2))
    keys = layer.attn2.keys(text)
    steps = [layer(x[:, i : i + 1], keys=keys, held=held, start=i) for i in range(6)]
    assert torch.allclose(torch.cat(steps, 1), whole, atol=1e-5)


def test_joined_attention_attends_to_the_text_and_to_itself() -> None:
    import torch

    module = blocks.attention()(16, 2, context_width=8, joined=True)
    x, text = torch.randn(1, 5, 16), torch.randn(1, 3, 8)
    k = torch.cat([module.add_k(text), module.to_k(x)], 1).view(1, 8, 2, 8).transpose(1, 2)
    v = torch.cat([module.add_v(text), module.to_v(x)], 1).view(1, 8, 2, 8).transpose(1, 2)
    q = module.to_q(x).view(1, 5, 2, 8).transpose(1, 2)
    out = (torch.softmax(q @ k.mT / 8**0.5, -1) @ v).transpose(1, 2).reshape(1, 5, 16)
    assert torch.allclose(module(x, text), module.to_out(out), atol=1e-5)


def test_attention_of_maps_is_attention_of_their_tokens() -> None:
    import torch

    space, time = blocks.map_attention()
    x = torch.randn(2 * 3, 16, 4, 5)
    over_space = space(16, 2)
    plain = blocks.attention()(16, 2)
    plain.load_state_dict(over_space.state_dict())
    expected = plain(x.flatten(2).mT).mT.reshape(x.shape)
    assert torch.allclose(over_space(x), expected, atol=1e-6)
    over_time = time(16, 2)
    plain.load_state_dict(over_time.state_dict())
    rows = x.view(2, 3, 16, 4, 5).permute(0, 3, 4, 1, 2).reshape(-1, 3, 16)
    expected = plain(rows).view(2, 4, 5, 3, 16).permute(0, 3, 4, 1, 2).reshape(x.shape)
    assert torch.allclose(over_time(x, 3), expected, atol=1e-6)


def test_multi_axis_attention_stays_inside_and_steps_across_blocks() -> None:
    """A token's output changes with the tokens of its block, by half the heads, and with those in its place of other blocks."""
    import torch

    module = blocks.multi_axis_attention()(8, 2, 2)
    x = torch.randn(1, 4 * 6, 8)
    before = module(x, 4, 6)
    assert before.shape == x.shape
    touched = x.clone()
    touched[0, 0] += 1.0  # row 0, column 0
    moved = (module(touched, 4, 6) - before).abs().sum(-1).view(4, 6) > 1e-6
    block = {(0, 0), (0, 1), (1, 0), (1, 1)}
    grid = {(row, column) for row in (0, 2) for column in (0, 2, 4)}
    assert {(int(r), int(c)) for r, c in moved.nonzero()} == block | grid


@pytest.mark.parametrize("guidance", [True, False])
def test_one_step_of_parallel_decoding_keeps_known_and_samples_other_tokens(guidance: bool) -> None:
    import torch

    n = 2 if guidance else 1
    module = blocks.masked_transformer()(10, 12, 32, 2, 4, 64, 16)
    tokens = module(torch.full((n, 12), 10), torch.randn(n, 3, 16), guidance)
    assert tokens.shape == (n, 12)
    assert ((tokens >= 0) & (tokens <= 10)).all()
    assert (tokens == 10).any()  # the least confident stay masked
    assert (tokens < 10).any()


def test_the_vqgan_decoder_doubles_the_size_at_every_level_but_one() -> None:
    import torch

    module = blocks.vqgan_decoder()(16, 8, 32, (1, 1, 2, 2, 4), 1)
    assert module(torch.zeros(2, 2, 3, dtype=torch.int64)).shape == (2, 3, 32, 48)


def test_unets_return_what_they_denoise() -> None:
    import torch

    text, steps = torch.randn(2, 3, 16), torch.tensor([1.0, 7.0])
    images = unets.unet()(3, 3, 32, (1, 2), 2, attend=(1,), head_dim=32, text_width=16, context_width=64)
    assert images(torch.randn(2, 3, 8, 16), steps, text).shape == (2, 3, 8, 16)
    efficient = unets.efficient_unet()((32, 64), (1, 2), 16, "cross")
    assert efficient(torch.randn(2, 3, 16, 16), torch.randn(2, 3, 4, 4), steps, text).shape == (2, 3, 16, 16)
    joined = unets.efficient_unet()((32, 64), (1, 2), 16, "joined")
    assert joined(torch.randn(2, 3, 16, 16), torch.randn(2, 3, 4, 4), steps, text).isfinite().all()


def test_a_temporal_unet_mixes_frames_and_no_clips() -> None:
    import torch

    module = unets.unet()(3, 3, 32, (1, 2), 1, attend=(1,), head_dim=32, context_width=16, temporal=True)
    x, steps, context = torch.randn(2, 3, 4, 8, 8), torch.tensor([1.0, 7.0]), torch.randn(2, 4, 16)
    before = module(x, steps, context)
    assert before.shape == x.shape
    touched = x.clone()
    touched[0, :, 0] += 1.0
    moved = (module(touched, steps, context) - before).abs().amax((1, 3, 4)) > 1e-6
    assert moved.tolist() == [[True] * 4, [False] * 4]


def test_a_unet_s_skips_pair_up() -> None:
    channels = [32, 64, 96]
    down, up = unets._down(channels, 2, (1,)), unets._up(channels, 2, (1,))
    kept = [32, *(block.outputs for block in down)]
    now = 96
    for block in up:
        assert block.inputs == now + (kept.pop() if block.joins else 0)
        now = block.outputs
    assert not kept
    assert now == 32
    assert [b.outputs for b in down if b.attends] == [64, 64]
    assert [b.outputs for b in up if b.attends] == [64, 64, 64]


def test_the_suite_s_own_modules_run_at_reduced_width() -> None:
    import torch

    from workloads.models import make_a_video, muse, parti, phenaki

    def real(module: Any) -> Any:
        module = module.to_empty(device="cpu").eval()
        for parameter in module.parameters():
            parameter.normal_(std=0.02)
        return module

    transformer = real(parti.transformer("fp32", 4, 3, 32, 4, 64, (1, 2)))
    keys = transformer(torch.zeros(2, 3, dtype=torch.int64))
    held = tuple((torch.zeros(2, 4, 4, 8), torch.zeros(2, 4, 4, 8)) for _ in range(2))
    token = torch.zeros(2, 1, dtype=torch.int64)
    for start in range(4):
        token = transformer(token=token, start=start, held=held, keys=keys, guidance=False)
    assert token.shape == (2, 1)
    assert transformer(token=token, start=3, held=held, keys=keys, guidance=True).shape == (1, 1)
    image = real(parti.image_decoder("fp32", (2, 3), 32, 4, 64, 2))
    assert image(torch.zeros(1, 6, dtype=torch.int64)).shape == (1, 3, 16, 24)

    upscale = real(muse.super_resolution("fp32", (2, 2), (8, 8), 32, 4, (1, 2)))
    prompt = torch.randn(2, 3, 4096)
    context = upscale(low=torch.zeros(2, 4, dtype=torch.int64), prompt=prompt)
    assert context.shape == (2, 4 + 3, 32)
    assert upscale(torch.zeros(2, 64, dtype=torch.int64), context, True).shape == (2, 64)
    assert real(muse.base("fp32", 4, 32, 2, 4))(torch.zeros(1, 4, dtype=torch.int64), prompt[:1], False).shape == (1, 4)

    first, pairs = real(phenaki.video_decoder("fp32", 32, 1, 4))(torch.zeros(1, 3, 2, 2, dtype=torch.int64))
    assert first.shape == (1, 3, 1, 16, 16)
    assert pairs.shape == (1, 3, 4, 16, 16)

    prior = real(make_a_video.prior("fp32", 32, 2, 4))
    assert prior(torch.randn(2, 77, 1024), torch.randn(2, 1024), torch.randn(2, 1024)).shape == (2, 1024)
    decoder = real(make_a_video.decoder("fp32", 7, 64, 64))
    assert decoder(torch.randn(1, 7, 3, 8, 8), torch.ones(1), torch.randn(1, 1024)).shape == (1, 3, 3, 8, 8)
