"""Templates searched for on modules cut to a few of their equal layers, then made of whole ones. For maintainers.

Where structures change, they change in every layer alike, so that a search need not capture all of them: a transformer of 48
blocks takes a fifteenth of the time with three. What it finds says which structure is where; each is then captured whole at a
few sizes, fitted, and proven at other captures of whole modules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from workloads import samples
from workloads.cache import captured_stage
from workloads.looped import Looped
from workloads.model import Stage
from workloads.pool import BUILT_IN, ENOUGH, Pool, Sample, Ways, counts_of, unlike_held
from workloads.search import PROOFS, Contradicted, Found, find_family, gives, prove
from workloads.signature import signature
from workloads.structure import Form, template
from workloads.templates import NONE, Family, Template, chosen
from workloads.trace import Trace
from workloads.within import numbered

LAYERS = 3  # that are left of a list of equal ones: the first two and the last
MORE = 2  # times as many samples unlike those held, that cut modules take little time for
WHOLE = 7  # captures of whole modules that make a template; twice as many where a loop that runs once is among them


def find_shallow(
    group: Sequence[Sample], far: Sequence[Sample], like: Family | None, ways: Ways = BUILT_IN, unlike: int = 0
) -> Found:
    """As `workloads.search.find_family`, its search on cut modules. Raises Contradicted."""
    try:
        found = find_family(group, far, like, Ways(capture=captured, near=ways.near), MORE * unlike)
    finally:
        _MODULES.clear()
    pool = Pool(replace(found.family, tree=NONE, templates=()), BUILT_IN)
    pool.add([*group, *found.samples])
    made = [of_whole(pool, found.family, leaf) for leaf in range(len(found.family.templates))]
    used = [leaf for leaf, one in enumerate(made) if one is not None]
    family = replace(
        found.family, tree=numbered(found.family.tree, used), templates=tuple(one for one in made if one is not None)
    )
    covered = [i for i in range(len(pool.samples)) if family.at(pool.samples[i].signature.numbers) is not None]
    left = [i for i in unlike_held(pool, len(pool.samples)) if i in covered]
    left += [i for i in covered if i not in pool.held and i not in left]
    beyond = [s for s in far if family.at(s.signature.numbers) is not None]
    proven = prove(family, [*(pool.samples[i] for i in left[: max(unlike, PROOFS)]), *beyond[:1]])
    if not proven:
        raise Contradicted(f"no structure could be proven of whole modules ({group[0].model})")
    return Found(family, len(covered), len(pool.samples), len(pool.held))


def of_whole(pool: Pool, family: Family, leaf: int) -> Template | Looped | None:
    """The template of whole modules where a family has one of cut ones; None where it is not one structure, or has none."""
    mine = [i for i in range(len(pool.samples)) if chosen(family.tree, pool.symbols[i]) == leaf]
    if len(mine) < ENOUGH:
        return None
    part = Pool(pool.empty, pool.ways, [pool.samples[i] for i in mine], [pool.symbols[i] for i in mine])
    picked = [mine[i] for i in [0, *_others(part)]]
    pool.capture(picked[:WHOLE])
    forms = _forms(pool, picked)
    if len(forms) < ENOUGH:  # the others are of a loop that runs once, which the template has to give as well
        pool.capture(picked[WHOLE : 2 * WHOLE])
        forms = _forms(pool, picked)
    found = None
    if len(forms) >= ENOUGH:
        hints = min(pool.samples[i].signature.hints for i in forms)
        symbols = np.array([pool.symbols[i] for i in forms])
        found, _ = template(symbols, list(forms.values()), counts_of(family.places, hints))
    held = [i for i in picked if pool.held.get(i) is not None]
    if found is not None and not all(gives(found, pool, i) for i in held):
        found = None
    print(f"  {len(forms)} of {len(held)} whole captures of a structure{'' if found else ', no template'}", flush=True)
    return found


def _forms(pool: Pool, picked: Sequence[int]) -> dict[int, Form]:
    """The captures of the structure that most of them have."""
    forms = {i: held for i in picked if (held := pool.held.get(i)) is not None}
    most = Counter(held.key for held in forms.values()).most_common(1)
    return {i: held for i, held in forms.items() if held.key == most[0][0]}


def _others(part: Pool) -> list[int]:
    """All but the first, which is the most usual: those that are most unlike each other first."""
    part.held[0] = None
    unlike = unlike_held(part, WHOLE)
    return [*unlike, *(i for i in range(1, len(part.samples)) if i not in unlike)]


def captured(sample: Any) -> Trace:
    """As `workloads.samples.captured`, of a cut module."""
    stage, other = (replace(s, name="", build=_cut_once(s, sample)) for s in (sample.stage, sample.other))
    return captured_stage(stage, other, sample.frames)


_MODULES: dict[Any, Any] = {}


def _cut_once(stage: Stage, sample: samples.Sample) -> Callable[[], Any]:
    own = signature(stage, sample.frames)  # at other frames a stage may be of another module
    key = sample.signature.module if own is None else own.module

    def build() -> Any:
        if key not in _MODULES:
            if len(_MODULES) >= samples.KEPT:
                _MODULES.clear()
            _MODULES[key] = cut((stage.uncut or stage.build)())
        return _MODULES[key]

    return build


def cut(module: Any) -> Any:
    """The module, of each of its lists of equal layers only LAYERS left; the last one may be unlike the others."""
    import torch

    for held in list(module.modules()):
        if isinstance(held, torch.nn.ModuleList) and len(held) > LAYERS and _equal(list(held)[:-1]):
            del held[LAYERS - 1 : -1]
    return module


def _equal(layers: Sequence[Any]) -> bool:
    """Whether layers are of one type and size."""
    return len({(type(layer), tuple(p.shape for p in layer.parameters())) for layer in layers}) == 1
