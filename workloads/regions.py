"""`python -m workloads.regions MODEL [FIELD=VALUE ...] [--several] [--stage NAME]`: templates where some fields have one value.

`workloads.regenerate` draws requests over all that a model takes. Where structures change at one value (one sample, of which
torch makes no copy; the size that a table of positions was made for), few of its draws are there, and captures of other values
are mixed in. This captures only requests with the fields given, finds and proves the templates of those alone, and puts them
into the stored family under the condition that the stage's numbers have the values that all of them share; with a stage and no
fields, all requests, the least among them. Without either: of one sample, and where OWN says. `workloads.regenerate` ends with
these.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import yaml
from pydantic import ValidationError

from hwspecs.errors import FramecastError
from workloads import samples, tables, templates, unfound
from workloads.digest import code_of
from workloads.in_region import (
    above,
    agreeing,
    at_least,
    entries_of,
    least_of,
    mine_of,
    numbers_of,
    of_family,
    shared_by,
    without_wrong,
    write_entry,
)
from workloads.kin import covered
from workloads.model import Model, find
from workloads.pool import BUILT_IN, ENOUGH, places_of
from workloads.samples import Sample
from workloads.search import PROOFS, Contradicted, find_family, prove
from workloads.shallow import find_shallow
from workloads.templates import NONE, Family, digest
from workloads.verify import picked
from workloads.within import Region, holds, merged, within

DRAWS, LARGE_DRAWS, CHECKED = 120, 20, 6  # requests drawn of the region; far ones; captures that prove it once more
SEVERAL = {"batch": 2}  # the least
KEPT_DRAWS, KEPT_CAPTURES = 20, 3  # draws of the region, and captures of a key, that prove what is there with --kept
MOST_CAPTURES = 400  # of a search with --kept, at most
UNLIKE = 12  # captures at values that were not captured before, which templates must give
MOST = 0.9  # of the drawn sizes: what fp16 covers, so that it is tried for bf16
# Of requests of all sizes, the least among them: where a decoder is one piece, its capture takes a second or two.
_DECODER = "--stage vae_decoder"
# Of one sample: below, each way in which numbers are 1 or 2 has other operators.
_NO_LESS = "--from frames=2 --from height=128 --from width=128"
# Of several samples, with no fewer latents than tokens of text.
_AS_LONG = "--several --stage transformer --shallow --from frames=13 --from height=128 --from width=128 --draws 60"
# Of a transformer that takes its samples one by one: a loop, which a sample alone does not have. Four latents along each axis.
_ONE_BY_ONE = "--several --stage transformer --shallow --from frames=19 --from height=32 --from width=32 --draws 60"
_FOUR_LATENTS = "--stage transformer --shallow --from frames=9 --from height=32 --from width=32"  # along each side
_IMAGE = "--from height=128 --from width=128"  # the same of images
_ALL = "--stage transformer --shallow"  # of requests of all sizes, but for that of a table
_ONE_FRAME = "frames=1 --stage unet"
ALONE = {
    "animatediff": _NO_LESS,
    "cogvideox-2b": "--least 4",
    "mochi": "--least 4 --shallow",
    "modelscope-t2v": "--least 5",
    "svd-xt": _NO_LESS,
}
# Arguments of the regions of single models, beside one sample; they come after that.
OWN = {
    "animatediff": (_ONE_FRAME,),
    "cogvideox-2b": (
        f"batch=1 guidance=false {_FOUR_LATENTS}",
        f"--several {_FOUR_LATENTS}",
        "height=480 width=720 frames=49 --stage transformer",
        "batch=1 guidance=false height=480 width=720 frames=49 --stage transformer",
        _DECODER,
        "batch=1 frames=13 --stage vae_decoder",  # one sample of four latents, in fp32 another structure than of five
    ),
    "cogvideox-5b": ("--several --shallow --stage transformer",),
    "flux.1-dev": ("--several --shallow --stage transformer --draws 60",),
    "hunyuanvideo": (
        "--several --stage text_encoder",
        f"--several {_DECODER}",
        *(f"{clips} {_DECODER} --far" for clips in ("batch=2", "batch=3", "--from batch=4")),
        f"--from batch=4 --from frames=73 {_DECODER} --far --draws 500",  # of many stretches, met too rarely among all
        _AS_LONG,
    ),
    "latte": (
        _ALL,
        "height=512 width=512 --stage transformer",
        "batch=1 guidance=false height=512 width=512 --stage transformer",
    ),
    "ltx-video": ("batch=1 guidance=false --stage transformer --shallow",),
    "make-a-video": ("frames=1 --stage decoder --stage interpolation --stage super_resolution_1",),
    "mochi": (_ONE_BY_ONE, _DECODER, "frames=1 --stage transformer --shallow"),
    "phenaki": ("--several --stage video_decoder",),
    "pixart-alpha": (
        _ALL,
        "height=1024 width=1024 --stage transformer",
    ),
    "production-latent": (f"batch=1 guidance=false --stage unet {_IMAGE}",),
    "sd3-medium": (
        _ALL,
        "width=3072 --stage transformer",
    ),
    "svd-xt": (_ONE_FRAME,),
}


def main(arguments: Sequence[str]) -> int:
    """Find, prove and write. Returns the exit code: 1 where a key has no templates there, 2 for a wrong argument."""
    asked = _parser().parse_args(arguments)
    try:
        model = find(asked.model)
        wanted = [asked] if asked.fields or asked.several or asked.stage else regions_of(model)
        done = [extended(model, region) for region in wanted]
    except (FramecastError, ValueError) as error:
        print(f"error: {_line(error)}", file=sys.stderr)
        return 2
    return 0 if all(done) else 1


def fields_of(given: Sequence[str]) -> dict[str, Any]:
    """Values by name of FIELD=VALUE."""
    return {name: yaml.safe_load(value) for name, _, value in (f.partition("=") for f in given)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workloads.regions", description=__doc__)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("fields", nargs="*", metavar="FIELD=VALUE", help="that all requests share")
    parser.add_argument("--several", action="store_true", help="only stages of more than one sample")
    parser.add_argument("--anew", action="store_true", help="find them anew where there are some that cover the region")
    parser.add_argument("--shallow", action="store_true", help="search with few of equal layers (`workloads.shallow`)")
    parser.add_argument("--far", action="store_true", help="as many draws again of numbers up to twice as large")
    parser.add_argument("--kept", action="store_true", help="not where there are some that hold at the usual request")
    parser.add_argument(
        "--least", type=int, default=0, metavar="N",
        help="only stages whose numbers are at least N each, where they vary",
    )  # fmt: skip
    parser.add_argument(
        "--from", action="append", default=[], metavar="FIELD=VALUE", dest="floor",
        help="only requests whose field is at least that; the numbers of the region begin where theirs do",
    )  # fmt: skip
    for name, choices in (("stage", None), ("dtype", samples.DTYPES)):
        parser.add_argument(f"--{name}", action="append", choices=choices, help="only these (may be repeated)")
    parser.add_argument("--draws", type=int, default=DRAWS, help=f"requests that are drawn (default: {DRAWS})")
    return parser


def regions_of(model: Model, *more: str) -> list[argparse.Namespace]:
    """The regions that a model's templates are found in apart: one sample, and OWN; with `more` arguments each."""
    alone = "batch=1 guidance=false" if hasattr(model.request(), "guidance") else "batch=1"
    wanted = (f"{alone} {ALONE.get(model.id, '')}", *OWN.get(model.id, ()))
    return [_parser().parse_args([model.id, *words.split(), *more]) for words in wanted]


def title(asked: argparse.Namespace) -> str:
    """A region as the command takes it, but for what says how it is searched: 'mochi batch=1 --stage vae_decoder'."""
    words = [
        asked.model,
        *asked.fields,
        *(f"--from {f}" for f in asked.floor),
        *(f"--stage {s}" for s in asked.stage or ()),
    ]
    return " ".join([*words, *["--several"] * asked.several, *[f"--least {asked.least}"] * bool(asked.least)])


def extended(model: Model, asked: argparse.Namespace) -> bool:
    """Find, prove and write the templates of a region. Returns whether every key has some there; ValueError for a wrong field.

    With --kept also where a search is known to find none.
    """
    fixed, floor = fields_of(asked.fields), fields_of(asked.floor)
    kept = _kept(model, asked, fixed, floor) if asked.kept else None
    if kept is not None and all(kept.values()):
        return True
    groups = _groups(model, fixed, asked.draws, random.Random(0), large=False)
    beyond = _groups(model, fixed, LARGE_DRAWS, random.Random(1), large=True)
    checks = _groups(model, fixed, asked.draws, random.Random(2), large=False)
    more = _groups(model, fixed, asked.draws, random.Random(3), large=True) if asked.far else {}
    drawn = chain.from_iterable([*groups.values(), *more.values()])
    groups = samples.by_key(chain(drawn, _at_floor(model, fixed, floor)))
    for found in (groups, beyond, checks):
        _keep(found, floor)
    done = True
    for key in sorted(groups, key=lambda k: ("fp16" not in k, k)):
        if _asked_for(groups[key][0], asked) and not (kept and kept.get(key)):
            done &= _extended(model, key, groups[key], beyond.get(key, []), checks.get(key, []), asked)
    return done


def _asked_for(sample: Sample, asked: argparse.Namespace) -> bool:
    wanted = not asked.stage or sample.stage.name in asked.stage
    return wanted and (not asked.dtype or sample.request.dtype in asked.dtype)


def _kept(
    model: Model, asked: argparse.Namespace, fixed: Mapping[str, Any], floor: Mapping[str, int]
) -> dict[str, bool]:
    """By key of the region whether captures are as its templates say, or it is known to have none; the usual request first.

    Those that are proven are written as of the code of today.
    """
    groups = _groups(model, fixed, KEPT_DRAWS, random.Random(2), large=False, edges=False)
    _keep(groups, floor)
    wanted = {key: group for key, group in groups.items() if _asked_for(group[0], asked)}
    return {key: _kept_key(model, key, group, asked) for key, group in sorted(wanted.items())}


def _kept_key(model: Model, key: str, group: list[Sample], asked: argparse.Namespace) -> bool:
    function = group[0].signature.function
    entries = entries_of(function)
    whole = _whole(model, key, group, entries)
    mine = mine_of(whole, group, asked.several, asked.least)
    why = unfound.reason(unfound.name_of(key, title(asked)), code_of(function))
    if not mine:
        return True
    if not covered(whole, mine[:1]):
        if why:
            print(f"  {key[:100]}: none, as is known: {why}", flush=True)
        return why is not None
    picked_ = [mine[0], *picked(whole, mine[1:], random.Random(0))][:KEPT_CAPTURES]
    agreed = agreeing(whole, picked_)
    if not agreed:
        return False
    print(f"  {key[:100]}: {len(covered(whole, mine))} of {len(mine)} drawn, {agreed} captures agree", flush=True)
    write_entry(function, entries, digest(key))
    return True


def _at_floor(model: Model, fixed: Mapping[str, Any], floor: Mapping[str, int]) -> Iterator[Sample]:
    """Requests of two batches with one of the fields at the least that is asked for, and with all: the region begins there."""
    for chosen in [{name: value} for name, value in floor.items()] + [dict(floor)] * bool(floor):
        for batch in ({}, SEVERAL):
            yield from samples.in_every_dtype(model, [model.request(**{**batch, **fixed, **chosen})])


def _keep(groups: dict[str, list[Sample]], floor: Mapping[str, int]) -> None:
    """Leave the samples of requests that have at least those values."""
    for key in list(groups):
        groups[key] = [s for s in groups[key] if all(getattr(s.request, n) >= value for n, value in floor.items())]
        if not groups[key]:
            del groups[key]


def _line(error: Exception) -> str:
    """What is wrong with a request, in one line: 'height: found 7, ...'."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}"


def _groups(
    model: Model, fixed: Mapping[str, Any], draws: int, rng: random.Random, *, large: bool, edges: bool = True
) -> dict[str, list[Sample]]:
    """Samples of the region by key, those of the default request first. edges: the least values of every number among them."""
    first = [] if large else list(samples.in_every_dtype(model, [model.request(**fixed)]))
    corners = chain(samples.least(model, rng, **fixed), samples.least_together(model, **fixed))
    least = [] if large or not edges else list(samples.in_every_dtype(model, corners))
    drawn = samples.samples(model, draws, rng, large=large, **fixed)
    return samples.by_key(tables.beside((*first, *drawn, *least), fixed))


def _extended(
    model: Model, key: str, group: list[Sample], far: list[Sample], checks: list[Sample], asked: argparse.Namespace
) -> bool:
    """Write the templates of a key in the region; whether it has some there now."""
    function, name = group[0].signature.function, digest(key)
    entries = entries_of(function)
    whole, stored = _whole(model, key, group, entries), name in entries
    mine, distant, checks = (of_family(whole, found, asked.several) for found in (group, far, checks))
    if asked.least and mine:
        shared = shared_by(whole, mine)
        mine, distant, checks = (at_least(whole, found, shared, asked.least) for found in (mine, distant, checks))
    if not mine:
        return True
    if len(mine) < 2 * ENOUGH:  # little varies: what lies beyond takes part, but for one
        mine, distant = [*mine, *distant[1:]], distant[:1]
    least = least_of(whole, mine) if asked.floor else asked.least
    but = tables.at_table(model, whole, key, fields_of(asked.fields))
    region = above(replace(within(whole, numbers_of(mine)), several=asked.several, but=but), whole, least)
    agreed = agreeing(whole, [mine[0], *picked(whole, checks, random.Random(0))])
    held = not asked.anew and agreed and len(covered(whole, mine)) == len(mine)
    try:
        if not held:
            entries[name] = _entry(whole, region, key, mine, distant, entries, asked)
            found = templates.family(entries[name], entries)
            if "like" not in entries[name]:
                found = without_wrong(found, region, covered(found, checks)[-2 * CHECKED :: 2])
                entries[name] = {"key": key[:200], **templates.family_data(found)}
            prove(found, [mine[0], *picked(found, checks, random.Random(0))])
    except Contradicted as error:
        print(f"  {key[:100]}: {error}", file=sys.stderr)
        unfound.record(unfound.name_of(key, title(asked)), key, code_of(function), str(error))
        if stored and agreed is None:
            none = merged(whole, region, Family(whole.places, whole.fixed, NONE, ()))
            write_entry(function, {**entries, name: {"key": key[:200], **templates.family_data(none)}}, name)
        return False
    whole = whole if held else found
    count, record = len(covered(whole, mine)), unfound.name_of(key, title(asked))
    if covered(whole, mine[:1]):
        unfound.forget(record)
    else:
        unfound.record(record, key, code_of(function), "no template at the usual request")
    print(f"  {key[:100]}: {count} of {len(mine)} sizes as captures say", flush=True)
    write_entry(function, entries, name)
    return count > 0


def _entry(
    whole: Family,
    region: Region,
    key: str,
    group: list[Sample],
    far: list[Sample],
    entries: Mapping[str, Any],
    asked: argparse.Namespace,
) -> dict[str, Any]:
    """An entry with templates in the region: those of fp16 by another name where captures say so, else found.

    Where they are asked for anew, those of fp16 are found, and never those of bf16.

    Raises Contradicted.
    """
    twin = None if asked.anew and "fp16" in key else _twin(key, group, entries)
    before = entries.get(digest(key), {}).get("like")
    if twin is not None and (whole.tree == NONE or region == Region((), ()) or before == twin["like"]):
        return twin
    if twin is not None:
        return {"key": key[:200], **templates.family_data(merged(whole, region, templates.family(twin, entries)))}
    cousin = entries.get(digest(key.replace("fp32", "fp16"))) if "fp32" in key else None
    search = find_shallow if asked.shallow else find_family
    like = None if cousin is None else templates.family(cousin, entries)
    ways = replace(BUILT_IN, near=_near(whole, region), most=MOST_CAPTURES if asked.kept else 0)
    found = search(group, far, like, ways, UNLIKE)
    print(f"  {len(found.family.templates)} structures, {found.covered} of {found.drawn} drawn sizes", flush=True)
    return {"key": key[:200], **templates.family_data(merged(whole, region, found.family))}


def _near(whole: Family, region: Region) -> Callable[[Sample, random.Random], Iterator[Sample]]:
    """`workloads.samples.siblings` within the region: what lies beyond has other structures, and its templates stay."""

    def near(sample: Sample, rng: random.Random) -> Iterator[Sample]:
        return (s for s in samples.siblings(sample, rng) if _inside(whole, region, s))

    return near


def _inside(whole: Family, region: Region, sample: Sample) -> bool:
    symbols = whole.symbols(sample.signature.numbers)
    return symbols is not None and holds(region, symbols)


def _twin(key: str, group: Sequence[Sample], entries: Mapping[str, Any]) -> dict[str, Any] | None:
    """The entry of a key of bf16 that has the templates of fp16, or the other way round, where captures say so.

    It has none of its own then.
    """
    mine, other = ("bf16", "fp16") if "bf16" in key else ("fp16", "bf16")
    name = digest(key.replace(mine, other))
    if mine not in key or name not in entries or entries[name].get("like") == digest(key):
        return None
    twin = {"key": key[:200], "like": entries[name].get("like", name), "dtypes": {other: mine}}
    family = templates.family(twin, entries)
    promised = [s for s in group if family.at(s.signature.numbers) is not None]
    try:
        return twin if len(promised) >= MOST * len(group) and prove(family, promised[:PROOFS]) else None
    except Contradicted as error:
        print(f"  not as {other}: {error}", flush=True)
        return None


def _whole(model: Model, key: str, group: Sequence[Sample], entries: Mapping[str, Any]) -> Family:
    """The stored family of a key, or one without templates, whose symbols are those of all that is drawn of the model."""
    if digest(key) in entries:
        return templates.family(entries[digest(key)], entries)
    every = samples.pool([model], random.Random(0), large=False)[group[0].signature.function][key]
    places, fixed = places_of(np.array([s.signature.numbers for s in [*every, *group]], dtype=np.int64))
    return Family(places, fixed, NONE, ())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
