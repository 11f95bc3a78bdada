"""Writes docs/templates.md: `python -m benchmarks.traces [MODEL ...]` measures the templates that framecast carries."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

from benchmarks.usual import usual
from hwspecs.errors import SpecError
from workloads.cache import carried, trace_of
from workloads.model import Model, Stage, models
from workloads.samples import of_request, requests
from workloads.signature import signature
from workloads.templates import file_of, load, stage_trace

PAGE = Path(__file__).parent.parent / "docs/templates.md"
DRAWN = 60  # requests of a model, over all that it takes
SEED = 7  # of the draws; other than those that templates are found at
INTRO = """# Traces without torch

A trace says what a model computes for a request. framecast carries a *template* of every stage of its models: the calls of one
structure (operators, order, which tensor goes where), and for every dimension and tensor size an exact expression in whole
numbers. So a model runs at any size without torch or diffusers, and a thousand sizes take milliseconds each.

## How they are found

`python -m workloads.regenerate [MODEL ...]` needs the extra `[capture]`. For every function that builds a module it

1. draws requests of all the models that use it, in every dtype, a third of each number among the least, where structures
   change, and captures some 16 of its stages;
2. sorts the captures by structure: the same operators on the same tensors, with the same dimensions zero. Where the structure
   changes with the numbers it looks for the border (a threshold, divisibility, two equal numbers) and captures on both sides
   of it; what lies between two captures of different structures is left out. Of a structure that was met too rarely it draws
   more requests that share some of the numbers. Where another condition tells the captures apart as well, it captures where
   the two disagree. Divisibility, and two equal numbers, are conditions only where at least three values speak for them: one
   value alone (the size of a table) is parted by thresholds. Before a tree is taken, requests that share numbers with the
   default one are drawn, and of each condition and side of it those that lie nearest to its edge are captured: the one most
   like the default, the one least like it, and one that differs from it in that number. So is one of each way in which sizes
   are 1 (numbers of the stage, or dimensions of a template's operators: torch makes no copy there), requests of the least
   sides, frames and batches together among them. While one of these is not as the tree says, the search goes on with it. A
   decoder that takes a clip a few frames at a time has one structure for all lengths: what
   is repeated is kept once, with an expression for how often; a template also gets the sizes of other structures that it gives
   exactly (a loop that runs once, or never);
3. finds for each size the expression by exact rational arithmetic, from at least 5 captures: a constant, c m, c m + b or
   g (a m + b) or a m + b m' or a m + b m' + c, with products of the stage's numbers, of such numbers halved and rounded, padded,
   or the rest of a division. A size that has none and takes a few values alone is made part of the structure; one that is the
   lesser of two (a copy reads in runs of the text or of the video, whichever is shorter) makes two structures of one;
4. compares the result with captures that took no part, one of them larger than any before. One that differs becomes part of
   the search; if they keep differing, nothing is written. bf16 is fp16 under another name where captures say so, and so are two
   modules that differ in a constant.

A key that differs from another in dtypes alone (fp32 beside fp16) is tried with the borders of that one: of each of its
structures seven captures in the key's own dtype make a template, and two others, and one of a larger size, prove it. Where the
seven are several structures (a cast or copy that the other dtype has everywhere), what parts them is searched for there alone;
a structure that is not proven has no template. That takes some ten captures a structure.

Templates that are there are proven with the code of today, which takes three captures a key and one of each way in which
sizes are 1, and stay; what one of these contradicts is found anew. Of those that cover
nothing that was drawn a usual request is captured, and where no capture could be compared they are found anew, never kept.
`--more` searches again where they cover little of what is drawn, and takes what covers more. `python -m workloads.gaps [MODEL
...]` captures at sizes that lie between two structures, at any size and at the default one, halves what is open, and moves the
border: decoders of images change theirs at 64 at once. `python -m workloads.holes [MODEL ...]` captures where no template was
found, and takes one that was found elsewhere where it gives all of them.

The command says what is to do, how long that takes about, and after each part (a key, or a region below) how long is left. It
can be stopped: a journal in the cache folder holds the parts that are done with the digests of code and files, and the same
command goes on from there; `--anew` starts again. A search ends after 400 captures. What was not found is written down with the
reason (`workloads/unfound.json`), and searched for again only by other code or with `--more`. Exit code 0: everything is
proven, or known not to be found. For all models it has 247 parts and some two million operator calls to capture, half an hour
on a quiet core by its own estimate. All of them in one command took 38 minutes with exit code 0, on two cores beside up to five
processes; with one capture of each way in which sizes are 1 besides, and four models found anew, 47 minutes in three commands.

Requests of one sample are a region of their own (`python -m workloads.regions`, which regenerate ends with): torch makes no
copy of a dimension of 1, so that the operators are others, and among draws of all batches too few are there. Only such
requests are captured, the least values of every other number among them; the templates have to give a dozen captures at values
that none was found at, and what is found is stored under the condition that the number is 1. A region may begin at a least
value: below five frames, or latents a side, ModelScope's UNet of one sample has another sequence of operators wherever numbers
are 1, and is captured; so are those of AnimateDiff and Stable Video Diffusion below 128 pixels a side, and Mochi's transformer
below four latents along an axis. One frame of these three and of Make-A-Video is a region too. A transformer is searched with
three of its equal blocks (`--shallow`), as structures change in all of them alike; each template is then made of whole modules,
captured at seven sizes, and proven at a dozen others.

The size that a table of positions was made for is another such region: there the stage makes no table (PixArt-α at 1024 x
1024, Latte at 512 x 512, CogVideoX 2B at 480 x 720 and 49 frames), or takes it in whole rows and makes no copy (SD3 at a width
of 3072). `workloads/tables.py` says which. Requests there are kept out of every other search, and what that finds does not
hold there; else a handful of captures that share a side with the table make up conditions (Latte's templates were wrong at 512
x 256, and those of PixArt-α had holes at squares whose latents 16 divides).

Mochi's attention takes its samples one after the other, so that each number of them is another sequence of operators. What
repeats is kept once, as in a decoder that takes a clip a few frames at a time: one template holds for any number of samples
from two on, with an expression for how often a sample's calls run, each block's loop by itself, and the concatenation behind
it that reads as many results as there are samples. HunyuanVideo's templates of several samples hold from 13 frames and 128
pixels a side on, where a clip has no fewer tokens than the text.

Where the operators follow numbers that its inputs do not show, a model's file says which (`Stage.counts`): how many stretches of
time HunyuanVideo decodes. Its decoder of two clips, of three, and of four and more are regions of their own: where the last
stretch is one latent (25, 37, 49 ... frames), a copy reads in runs of the lesser of twelve and three times the clips. Four clips
and more from 73 frames on are one more: among few lengths, the number of stretches could be taken for a fourth of the latents,
and a template was wrong at 121 frames that three proofs had passed.

The decoders of Mochi and CogVideoX cut a convolution that reads more than 2 GB into pieces of some frames, and Mochi's a group
norm into pieces of eight: every number of pieces is another sequence of operators. Their templates are of the same module with
nothing cut (`Stage.uncut`), and the library's own rule, some lines of arithmetic in `workloads/chunked.py`, cuts what a template
gives. So they hold for any number of pieces and of clips. Templates are proven, and tests compare them, after the cut, with
captures of what the library runs. Where the rule leaves pieces of fewer frames than a convolution takes, the library itself
fails, and framecast says so in a line.

`python -m workloads.verify [MODEL ...]` looks for a template that is wrong: it captures, of every key, stages drawn anew (the
smallest, and others), stages of requests that users make beside the default one (one thing changed: batch, guidance, 256 to 1024
pixels a side, square or not, half or twice the frames; then two), and stages on both sides of the conditions by which a template
is chosen, and one of each way in which sizes are 1; `--usual`, `--edges` and `--seed` say how many and which. With `--mend` a
template that is contradicted where numbers are small no longer holds there, and one that is contradicted elsewhere nowhere.

So captures were compared with templates while these were made, some 9,000 of all models. Those that were contradicted were of
sizes at which something is 1, or of a table: Latte at 16 x 16 pixels and at sides of its table, SD3 at a width of 3072, UNets of
images some tens of pixels wide or high, single frames of video models. Each kind led to a rule above. The last was to capture one
stage of each way in which sizes are 1: of 1,874 such captures 28 differed (PixArt-α and SD3 at 16 x 16 of one sample, CogVideoX
2B of one frame or 16 pixels wide, HunyuanVideo of one frame of 16 x 16, LTX-Video's decoder of one latent, Phenaki's of 8 x 8).
Those were found anew by the same rule, and hold there now; so do single frames of Make-A-Video, Mochi, AnimateDiff and Stable
Video Diffusion, which had none before. Since then, at other draws, one of 2,393 captures of such ways (up to three of each)
differed: production-latent's UNet in fp32 of an image of 32 x 64, which has no template there now (24 and 32 pixels by 40 to 64).
These two comparisons were made by a script of that rule which is not kept; `python -m workloads.verify --seed 47 --usual 2
--edges 4`, which captures one of each way besides what it captured before, then made 2,502, of which none differs.

Without a template, by masks that were set before that rule was there, are still images up to some tens of pixels: of SDXL below
32, of AnimateDiff, Stable Video Diffusion and Stable Diffusion 2.1 up to 64 pixels a side, of Muse 64 pixels wide, Imagen's base
at 128 x 128, Make-A-Video's decoder at 96 x 96, and Stable Video Diffusion's decoder at 8 x 8. A run there captures.

A stage's numbers are the sizes of its inputs and the whole numbers that its module is built from, not the request's fields:
whatever changes a request into stages finds the same templates. They lie in `workloads/traces/`, a file a function.

Where no template holds (a structure that was met too rarely, or a size between two structures), the stage is captured, which
needs torch; a line on stderr says so. The tests compare every stage of every model with captures at two image sizes and, of
video, three frame counts, in batches larger than any that a template was found at; and they fail, naming the command, when
the code that a capture rests on has changed since.

## What is carried

`python -m benchmarks.traces` writes this page (with models, their rows alone). kB: the files of a model's stages (several models
share text encoders and decoders). Structures: of all stages and dtypes. Default: the request without a word. One sample: the
same without guidance, of batch 1. Usual: of the requests that `benchmarks/usual.py` lists (sizes and lengths of the model card or
paper, batches of 1, 2 and 4, with and without guidance), first in the dtype of the default, then in the two others; `fail` are
those that the library itself cannot run, counted apart. Drawn: of {drawn} requests drawn at random, many of them tiny. ms: a
trace, the first apart, on {machine}.

| model | kB | structures | default | one sample | usual | other dtypes | drawn | ms a trace |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def main(arguments: Sequence[str]) -> None:
    """Write the page; with models, measure those alone and leave the other rows as they are."""
    from benchmarks.run import _machine

    named = set(arguments) or set(models())
    if unknown := named - set(models()):
        raise SystemExit(f"error: unknown models: {', '.join(sorted(unknown))}")
    machine = _machine()
    held = {line.split("`")[1]: line for line in PAGE.read_text().splitlines() if line.startswith("| `")}
    rows = {m.id: "| " + " | ".join(map(str, row(m))) + " |" for m in models().values() if m.id in named}
    lines = [{**held, **rows}[model] for model in models() if model in {*held, *rows}]
    distinct = sum(path.stat().st_size for path in file_of("").parent.glob("*.xz")) / 1e3
    total = f"\nAll files together: {distinct:,.0f} kB.\n"
    text = INTRO.format(drawn=DRAWN, machine=f"a core of an {machine['cpu']}")
    PAGE.write_text(text + "\n".join(lines) + "\n" + total)


def row(model: Model) -> tuple[Any, ...]:
    """A line of the table."""
    drawn = [r for _, r in zip(range(DRAWN), requests(model, random.Random(SEED)), strict=False)]
    functions = {s.signature.function for r in drawn for s in of_request(model, r)}
    paths = [path for path in map(file_of, sorted(functions)) if path.exists()]
    held = [r for r in drawn if carried(model.id, r)]
    start = time.perf_counter()
    for request in held:
        trace_of(model.id, request)
    each = f"{(time.perf_counter() - start) / len(held) * 1e3:.1f}" if held else "-"
    return (
        f"`{model.id}`", f"{sum(p.stat().st_size for p in paths) / 1e3:.1f}", sum(map(_structures, paths)),
        _said(model, {}), _said(model, _alone(model)), *usually(model), f"{len(held)} of {len(drawn)}", each,
    )  # fmt: skip


class Carried(IntEnum):
    """Whether a stage has a template; of several the least counts."""

    FAILS = 0  # the library itself cannot run it
    NO = 1
    YES = 2


def usually(model: Model) -> tuple[str, str]:
    """How many of a model's usual requests are carried, and of how many: in its own dtype, and in others.

    Those that the library itself cannot run are counted apart: '58 of 58, 14 fail'.
    """
    known: dict[Any, Carried] = {}
    counts = {True: Counter[Carried](), False: Counter[Carried]()}
    for request in usual(model):
        frames = getattr(request, "frames", None)
        found = [_carried(stage, frames, known) for stage in model.stages(request)]
        counts[request.dtype == model.request().dtype][min(found)] += 1
    own, others = (_counted(counts[mine]) for mine in (True, False))
    return own, others


def _counted(found: Counter[Carried]) -> str:
    fail = f", {found[Carried.FAILS]} fail" if found[Carried.FAILS] else ""
    return f"{found[Carried.YES]} of {found[Carried.YES] + found[Carried.NO]}{fail}"


def _carried(stage: Stage, frames: int | None, known: dict[Any, Carried]) -> Carried:
    """Whether a stage has a template; requests share stages, each of which is looked for once."""
    found = signature(stage, frames)
    if found is None:
        return Carried.NO
    which = found.key, found.numbers
    if which not in known:
        try:
            known[which] = Carried.NO if stage_trace(stage, frames) is None else Carried.YES
        except SpecError:
            known[which] = Carried.FAILS
    return known[which]


def _alone(model: Model) -> dict[str, Any]:
    return {"batch": 1, **({"guidance": False} if hasattr(model.request(), "guidance") else {})}


def _said(model: Model, fields: dict[str, Any]) -> str:
    return "yes" if carried(model.id, model.request(**fields)) else "captured"


def _structures(path: Path) -> int:
    return sum(len(entry.get("templates", ())) for entry in load(path)["families"].values())


if __name__ == "__main__":
    main(sys.argv[1:])
