"""The decoding half of an autoencoder. torch and diffusers are imported when called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from workloads.parts.meta import on_meta


def decoder(build: Callable[[], Any], dtype: str, scale: float, options: Mapping[str, Any] | None = None) -> Any:
    """Latents / scale -> what the autoencoder that `build` returns decodes them to; its encoding half is left out.

    options: go to the autoencoder's `decode`. Slicing and tiling are as the library has them by default.
    """
    import torch

    class Decoder(torch.nn.Module):  # type: ignore[misc]
        """Latents -> images or frames."""

        def __init__(self, vae: Any) -> None:
            super().__init__()
            for part in ("encoder", "quant_conv"):
                if hasattr(vae, part):
                    delattr(vae, part)
            self.vae = vae

        def forward(self, latents: Any) -> Any:
            return self.vae.decode(latents / scale, return_dict=False, **(options or {}))

    return on_meta(lambda: Decoder(build()), dtype)


def in_one_piece(module: Any) -> Any:
    """A decoder of diffusers whose causal convolutions, and Mochi's norms, are no longer cut up: see `workloads.chunked`."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXSafeConv3d
    from diffusers.models.autoencoders.autoencoder_kl_mochi import MochiChunkedGroupNorm3D

    for part in module.modules():
        if isinstance(part, CogVideoXSafeConv3d):
            part.__class__ = torch.nn.Conv3d
        elif isinstance(part, MochiChunkedGroupNorm3D):
            part.chunk_size = sys.maxsize
    return module


def encoder(build: Callable[[], Any], dtype: str) -> Any:
    """The encoding half of the autoencoder that `build` returns: images -> moments of the latents."""
    import torch

    class Encoder(torch.nn.Module):  # type: ignore[misc]
        """Images -> moments."""

        def __init__(self, vae: Any) -> None:
            super().__init__()
            self.encoder, self.quant_conv = vae.encoder, vae.quant_conv

        def forward(self, images: Any) -> Any:
            return self.quant_conv(self.encoder(images))

    return on_meta(lambda: Encoder(build()), dtype)
