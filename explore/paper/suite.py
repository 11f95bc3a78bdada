"""The study's eight models on its device, each priced with unfused attention and with flash-2, as times by class and by what
kind of kernel takes them. Models are priced when they are first asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwspecs import device, software
from hwspecs.rates import Rates, rates
from hwspecs.software import Software
from sim.result import Priced, call_class, call_role
from sim.scenario import Scenario
from sim.simulate import price
from workloads import baselines
from workloads.cache import trace_of
from workloads.kind import REPORT_CLASSES, Ints
from workloads.lower import Kernels
from workloads.model import find
from workloads.ops.attention import ROLES
from workloads.trace import Trace

Floats: TypeAlias = NDArray[np.float64]

LLM = "llama-2-7b"
SD, IMAGEN, PRODUCTION, VIDEO = "stable-diffusion-1.5", "imagen", "production-latent", "make-a-video"
MUSE, PARTI, PHENAKI = "muse", "parti", "phenaki"
DIFFUSION_TTI, TRANSFORMER_TTI = (IMAGEN, SD, PRODUCTION), (MUSE, PARTI)
DIFFUSION, TTI_TTV = (*DIFFUSION_TTI, VIDEO), (*DIFFUSION_TTI, *TRANSFORMER_TTI, VIDEO, PHENAKI)
SUITE = (LLM, *TTI_TTV)
TITLE = {
    LLM: "LLaMA-2 7B", SD: "Stable Diffusion 1.5", IMAGEN: "Imagen", PRODUCTION: "production TTI", VIDEO: "Make-A-Video",
    MUSE: "Muse", PARTI: "Parti", PHENAKI: "Phenaki",
}  # fmt: skip
# What the study says of a request where a model's default is another; all else is the default (docs/assumptions.md).
ASKED: Mapping[str, Mapping[str, Any]] = {IMAGEN: {"middle": "768"}}  # "SR UNets, to 768x768 and 1024x1024"
DEVICE, SOFTWARE = "a100-sxm-80gb", "pytorch-eager"
UNFUSED, FLASH = WAYS = ("unfused", "flash-2")
# What is added up: the report classes, Attention by the role of its call, and the linear layers of attention modules by its too.
PROJECTIONS = "projections, "
GROUPS = (
    *(f"attention, {role}" for role in ROLES), *(c for c in REPORT_CLASSES if c != "Attention"),
    *(f"{PROJECTIONS}{role}" for role in ROLES),
)  # fmt: skip
# Kernels whose errors are taken to be one: see explore/paper/doubt.py.
KERNELS = ("GEMM", "fused attention", "convolution", "norm", "softmax", "element-wise")


@dataclass(frozen=True)
class Member:
    """One model of the suite at one request, in both ways; `scenario` is that of flash-2."""

    scenario: Scenario
    trace: Trace
    priced: Mapping[str, Priced]
    left_out: Collection[str] = ()  # names of components whose time does not count

    @cached_property
    def times(self) -> dict[str, Floats]:
        """Way -> seconds of kernel time of one inference, (components, GROUPS, KERNELS)."""
        counts = np.array([s.name not in self.left_out for s in self.trace.segments])[:, None, None]
        return {way: _times(self.trace, priced) * counts for way, priced in self.priced.items()}

    def call_group(self) -> Ints:
        """Index into GROUPS of each call, (calls,)."""
        return call_group(self.trace)


@dataclass(frozen=True)
class Suite:
    """Members by model and the fields of the request that differ from its default, made when they are asked for.

    asked: fields of the request by model, where it is not the default's. left_out: components by model whose time does not
    count. device: an id. changed: fields of the software that are not the study's. baseline: whose unfused attention every model
    runs (`workloads.baselines`), its own library's where none is named.
    """

    level: str = "physical"
    device: str = DEVICE
    changed: Mapping[str, Any] = field(default_factory=dict)
    baseline: str = ""
    asked: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: ASKED)
    left_out: Mapping[str, Collection[str]] = field(default_factory=dict)
    _made: dict[Any, Member] = field(default_factory=dict)

    @cached_property
    def rates(self) -> Rates:
        """Of the study's device."""
        return rates(device.load(self.device))

    def software(self, way: str) -> Software:
        """The study's, with a way to run attention."""
        return replace(with_attention(way), **self.changed)

    def scenario(self, model: str, way: str = FLASH, **request: Any) -> Scenario:
        """A model at the study's request with some fields changed."""
        sizes = "-".join(str(value) for value in request.values())
        return Scenario(
            name="-".join(part for part in (model, sizes) if part), model=model,
            request=find(model).request(**{**self.asked.get(model, {}), **request}),
            device=device.load(self.device), software=self.software(way), level=self.level,
            path=f"{model}.yaml",
        )  # fmt: skip

    def member(self, model: str, **request: Any) -> Member:
        """A model, priced in both ways. SpecError where it cannot be captured."""
        key = (model, *sorted(request.items()))
        if key not in self._made:
            scenario = self.scenario(model, **request)
            trace = baselines.renamed(trace_of(model, scenario.request), self.baseline)
            priced = {way: price(trace, self.software(way), self.rates, self.level) for way in WAYS}
            self._made[key] = Member(scenario, trace, priced, self.left_out.get(model, ()))
        return self._made[key]

    def members(self) -> Sequence[Member]:
        """All that were asked for so far, in that order."""
        return tuple(self._made.values())

    def but(
        self, asked: Mapping[str, Mapping[str, Any]], left_out: Mapping[str, Collection[str]] | None = None
    ) -> Suite:
        """The same with other requests of some models, or some components left out; all other members are shared."""
        left_out = left_out or {}
        made = {key: m for key, m in self._made.items() if key[0] not in asked and key[0] not in left_out}
        return replace(self, asked={**self.asked, **asked}, left_out=left_out, _made=made)

    def otherwise(self, **fields: Any) -> Suite:
        """The same at another level, on another device, with other software or unfused attention; nothing is shared."""
        return replace(self, _made={}, **fields)


def request_of(model: str, **fields: Any) -> Any:
    """The request of a model in the study, with some fields changed."""
    return find(model).request(**{**ASKED.get(model, {}), **fields})


def with_attention(way: str) -> Software:
    """The study's software with a way to run attention."""
    return replace(software.load(SOFTWARE), attention=way)  # type: ignore[arg-type]


def call_group(trace: Trace) -> Ints:
    """Index into GROUPS of each call, (calls,)."""
    role = call_role(trace)
    of_class = np.array([-1 if c == "Attention" else GROUPS.index(c) for c in REPORT_CLASSES])
    plain = np.where(role >= 0, role, of_class[call_class(trace)]).astype(np.int64)
    projection = trace.call_in_attention & (plain == GROUPS.index("Linear"))
    return np.where(projection, GROUPS.index(f"{PROJECTIONS}{ROLES[0]}") + module_role(trace), plain)


def module_role(trace: Trace) -> Ints:
    """Index into ROLES of the attention call in the nearest module around each call, self where there is none; (calls,)."""
    kind = trace.kinds.index("attention") if "attention" in trace.kinds else -1
    at = np.flatnonzero(trace.call_kind() == kind)
    roles: Ints = trace.dims("attention", trace.call_op[at]).role if len(at) else at
    of_path = {trace.paths[int(trace.call_path[c])]: int(r) for c, r in zip(at, roles, strict=True)}

    def nearest(path: str) -> int:
        while path and path not in of_path:
            path = path.rpartition(".")[0]
        return of_path.get(path, 0)

    return np.array([nearest(path) for path in trace.paths], dtype=np.int64)[trace.call_path]


def kernel_kind(kernels: Kernels) -> Ints:
    """Index into KERNELS of each kernel, (kernels,)."""
    tiled, fused = kernels.gemm[0] > 0, kernels.flash[0] > 0
    named = {
        "convolution": _family(kernels, "conv"),
        "norm": _family(kernels, "group_norm", "layer_norm", "rms_norm"),
        "softmax": np.array(kernels.name) == "softmax",
    }
    found = np.full(len(kernels), KERNELS.index("element-wise"))
    for name, mine in (("GEMM", tiled), *named.items(), ("fused attention", fused)):
        found[mine] = KERNELS.index(name)
    return found


def _family(kernels: Kernels, *kinds: str) -> NDArray[np.bool_]:
    return np.array([family.partition("/")[0] in kinds for family in kernels.family])


def _times(trace: Trace, priced: Priced) -> Floats:
    cost, group, repeats = priced.cost, call_group(trace), trace.call_repeats()
    kind = kernel_kind(cost.kernels)
    where, places = trace.call_segment() * len(GROUPS) + group, len(trace.segments) * len(GROUPS)
    columns = [cost.per_call(cost.time * (kind == i)) * repeats for i in range(len(KERNELS))]
    summed = np.stack([np.bincount(where, column, places) for column in columns], axis=1)
    return np.asarray(summed.reshape(len(trace.segments), len(GROUPS), len(KERNELS)), dtype=np.float64)
