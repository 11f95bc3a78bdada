"""The claims of the reference study: what it says, by which rule it is judged, and what of ours is held against it.

`measured` was written before anything was computed. Where the study leaves a reading open, the one taken is said
there; what another would give goes into the reason of the result. Where a reading was changed later, `before` says which was
first and why it went, and every output counts the verdicts by the first readings too.

Shares and speed-ups are of GPU kernel time over one whole inference, as in the study's profiles, at the default request of each
model (docs/assumptions.md), batch 1, on one A100 SXM 80 GB with PyTorch eager.

Attention is every kernel that runs inside an attention module, its projections too: the study attributes kernel time to
modules by hooks in their forward passes, and a hook on an attention module spans all of them. (First, the linear layers in it
counted as Linear. The study's own numbers do not allow that: Parti, 20 B parameters decoded token by token at batch 1, reads its
weights at every token, and would spend nine tenths of its time in linear layers on any machine, where the study has at most 49 %
for any transformer. `explore.paper.checks.reading` counts it.) One reading for all claims; the other is printed beside each.

TTI is text to image: Imagen, Stable Diffusion 1.5, the production model (diffusion), Muse and Parti (transformers).
TTV is text to
video: Make-A-Video (diffusion) and Phenaki (transformer). LLaMA-2 7B is the language model.
"""

from __future__ import annotations

from dataclasses import dataclass

from explore.paper.rules import CITED, OPEN, ORDER, Rule, between, over, point, up_to


@dataclass(frozen=True)
class Claim:
    """One claim. `study`: its value in words, with the unit that ours has too. `measured`: ours, in words. `before`: the reading
    that was first, and why it went, besides that of attention.
    """

    id: str
    title: str
    study: str
    rule: Rule
    unit: str
    measured: str
    before: str = ""


def _claims() -> tuple[Claim, ...]:
    return (
        Claim(
            "C01", "arithmetic intensity of diffusion TTI over the LLM", "up to 100x", up_to(100), "x",
            "FLOPs of one inference over the bytes of the model; greatest ratio of a diffusion TTI model to LLaMA's",
        ),
        Claim(
            "C02", "low-batch transformer TTI on the A100 roofline", "memory-bound", ORDER, "FLOP/B",
            "FLOPs of one inference over the traffic of its kernels (flash-2), below the ridge point: Muse, Parti",
        ),
        Claim(
            "C03", "attention, share of time, baseline, mean over TTI and TTV", "41.3 %", point(41.3), "%",
            "mean over the seven TTI and TTV models, unfused",
        ),
        Claim(
            "C04", "convolution, share of time, baseline, diffusion", "up to 36 %", up_to(36), "%",
            "greatest of the four diffusion models, unfused",
        ),
        Claim(
            "C05", "GroupNorm, share of time, diffusion", "4 - 11 %", between(4, 11), "%",
            "each of the four diffusion models, unfused",
        ),
        Claim(
            "C06", "convolution share, pixel-based over latent-based", "15 % more, points or relative", point(15), "%",
            "Imagen's over the mean of Stable Diffusion's and the production model's, unfused; points or relative, the nearer",
        ),
        Claim(
            "C07", "convolution, share of time after flash-2, diffusion TTI", "up to 44 %, the largest class", up_to(44), "%",
            "greatest of the three diffusion TTI models",
        ),
        Claim(
            "C08", "linear, share of time after flash-2, transformer TTI", "up to 49 %", up_to(49), "%",
            "greatest of Muse and Parti",
        ),
        Claim(
            "C09", "attention, share of time after flash-2, LLaMA and transformer TTI", "37 - 45 %", between(37, 45), "%",
            "LLaMA, Muse, Parti",
        ),
        Claim(
            "C10", "attention, share of time after flash-2, diffusion", "13 - 25 %", between(13, 25), "%",
            "each of the four diffusion models",
        ),
        Claim(
            "C11", "end-to-end speed-up by flash-2", "1.04 - 1.67x", between(1.04, 1.67), "x",
            "each of the eight models, kernel time unfused over flash-2",
        ),
        Claim(
            "C12", "speed-up of the attention modules, diffusion over transformer TTI", "1.1 - 2.5x", between(1.1, 2.5), "x",
            "every pair of a diffusion TTI model (three) and a transformer TTI model (two)",
        ),
        Claim(
            "C13", "sequence length over one Stable Diffusion inference", "varies by up to 4x, U-shaped, periodic", up_to(4), "x",
            "greatest ratio of neighbouring lengths over the self-attention calls; a period must be found, "
            "falling then rising in it",
        ),
        Claim(
            "C14", "sequence length over the inference: Parti, Muse", "grows linearly; constant", ORDER, "tokens",
            "Parti: keys of self-attention per decoded token on one line; Muse: queries of the base network "
            "the same in all steps",
        ),
        Claim(
            "C15", "similarity-matrix memory against the latent side L", "O(L^4)", point(4), "exponent",
            "log-log slope of the self-attention matrices of one UNet pass over the image sizes, Stable Diffusion",
        ),
        Claim(
            "C16", "histogram of sequence lengths, Stable Diffusion 512", "near uniform; right with size", ORDER, "share",
            "at most 20 % of the calls would have to move to make the buckets equal; the mean length rises from size to size",
        ),
        Claim(
            "C17", "growth of time, image 64 to 512, after flash-2", "convolution grows faster", ORDER, "ms",
            "milliseconds added from 64 to 512: convolution's above attention's, Stable Diffusion",
            "first: time at 512 over time at 64. The study shows times over image sizes, where what grows faster is what rises "
            "more; and at 64, with sequences of 64 to 1, neither time is of the image: it is of launches and weights",
        ),
        Claim(
            "C18", "Make-A-Video: temporal over spatial attention, time", "2x", point(2), "x",
            "attention over frames against self-attention over pixels of the same networks, unfused, one inference",
        ),
        Claim(
            "C19", "Make-A-Video: temporal over spatial attention, FLOPs", "1/9", point(1 / 9), "ratio",
            "FLOPs of the two products, as C18",
        ),
        Claim(
            "C20", "temporal attention, share of all attention time in TTV", "over 60 %", over(60), "%",
            "Make-A-Video, unfused, of the whole class Attention",
        ),
        Claim(
            "C21", "L2 misses per thousand instructions, temporal over spatial", "GEMM 1.96x, elementwise 1.22x", ORDER, "x",
            "signs and order: GEMM above 1, elementwise above 1, GEMM above elementwise; Make-A-Video, unfused",
        ),
        Claim(
            "C22", "mean memory access time, temporal minus spatial", "GEMM +28, elementwise +4, softmax +18 cycles", ORDER,
            "cycles", "signs and order: each above 0, GEMM above softmax, softmax above elementwise; as C21",
        ),
        Claim(
            "C23", "FLOPs of spatial and temporal attention against frames", "F; A F^2; crossover right with resolution", ORDER,
            "frames", "exactly F and F^2; a crossover; later at every higher resolution, Make-A-Video",
        ),
        Claim("C24", "training fleet: GPUs per parameter, TTI over LLM", "14x", CITED, "x", "a fleet's statistic"),
        Claim("C25", "training fleet: memory utilisation, TTI/TTV over LLM", "about 35 % higher", CITED, "%",
        "a fleet's statistic"),
        Claim(
            "C26", "FSDP training on more nodes: communication against compute", "in a figure that we do not have", OPEN, "%",
            "needs several GPUs",
        ),
        Claim(
            "C27", "HBM use and last-level misses over an inference", "follow the sequence length", ORDER, "rank correlation",
            "rank correlation above 0.5 of sequence length with HBM rate, and with L2 misses, over "
            "attention calls: Imagen, Parti",
        ),
        Claim(
            "C28", "speed-up of attention by flash-2, transformer TTI against LLaMA", "smaller", ORDER, "x",
            "Muse's and Parti's below LLaMA's",
        ),
        Claim(
            "C29", "sequence length of diffusion against the LLM", "up to an order of magnitude shorter", ORDER, "x",
            "LLaMA's longest over the mean length of the calls: above 1 for each diffusion TTI model; the greatest within "
            "half an order of 10 (3.2 to 32)",
        ),
        Claim(
            "C30", "latency of transformer TTI against diffusion TTI", "lower, more so decoding in parallel", ORDER, "s",
            "flash-2: Muse and Parti each below each of the three diffusion models; Muse below Parti",
        ),
        Claim(
            "C31", "sequence length against image side, diffusion", "proportional to the square", point(2), "exponent",
            "log-log slope of the longest length over the image sizes, Stable Diffusion",
        ),
        Claim(
            "C32", "operators of baseline LLM and transformer TTI", "mostly attention and linear; diffusion wider", ORDER, "%",
            "attention and linear above half: LLaMA, Muse, Parti; and each has fewer classes above 5 % than "
            "each diffusion TTI model",
        ),
    )  # fmt: skip


CLAIMS = {claim.id: claim for claim in _claims()}
