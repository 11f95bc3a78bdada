"""A weighted mix of workloads on one device: what `explore.evaluate` gives of each, and of a request of the mix.

Weights are shares of requests. Times, bytes and joules of the mix are those of the mean request; images and frames per second are
those of all over the time of all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from explore import evaluate as evaluating
from explore.evaluate import OUTPUTS, Workload
from explore.silicon import Made
from sim.scenario import Scenario
from workloads.kind import REPORT_CLASSES

Floats: TypeAlias = NDArray[np.float64]
PER_REQUEST = ("latency_s", "step_time_s", "gpu_time_s", "hbm_bytes", *(f"{c.lower()}_time_s" for c in REPORT_CLASSES))
PER_IMAGE = ("energy_per_image_j", "usd_per_1000_images")
OF_THE_DEVICE = ("full_power_w", "area_mm2", "price_usd")  # no workload changes them


@dataclass(frozen=True)
class Part:
    """One workload of a mix and its share of requests, above 0."""

    name: str
    weight: float
    workload: Workload


@dataclass(frozen=True)
class Mix:
    """Workloads that share a device. Their names tell them apart in outputs, 'NAME.latency_s', where there are several."""

    parts: tuple[Part, ...]

    @property
    def scenario(self) -> Scenario:
        """Of the first: the device that designs vary."""
        return self.parts[0].workload.scenario

    @property
    def outputs(self) -> dict[str, str]:
        """Unit of every output by name."""
        return outputs([part.name for part in self.parts])

    def evaluate(
        self,
        columns: Mapping[str, Floats],
        wanted: Collection[str] | None = None,
        made: Made | None = None,
        compiled: bool | None = None,
    ) -> dict[str, Floats]:
        """Outputs by name, each (designs,), as `explore.evaluate.evaluate`. ValueError for an output that does not exist."""
        wanted = self.outputs if wanted is None else wanted
        if len(self.parts) == 1:
            return evaluating.evaluate(self.parts[0].workload, columns, wanted, made, compiled)
        if unknown := set(wanted) - set(self.outputs):
            raise ValueError(f"no such output: {', '.join(sorted(unknown))}")
        of_all = [name for name in OUTPUTS if name in wanted]
        each = {}
        for part in self.parts:
            own = [name for name in OUTPUTS if f"{part.name}.{name}" in wanted]
            mine = {*of_all, *own, "latency_s"}
            each[part.name] = evaluating.evaluate(part.workload, columns, mine, made, compiled)
        found = {name: self._of_all(name, each) for name in of_all}
        return found | {
            n: each[n.partition(".")[0]][n.partition(".")[2]] for n in self.outputs if "." in n and n in wanted
        }

    def _of_all(self, name: str, each: Mapping[str, Mapping[str, Floats]]) -> Floats:
        """One output of the mix; sums in the order of the parts."""
        if name in OF_THE_DEVICE:
            return each[self.parts[0].name][name]
        if name == "fits":
            return np.asarray(np.all([each[p.name][name] for p in self.parts], axis=0))
        if name == "peak_memory_bytes":
            return np.asarray(np.max([each[p.name][name] for p in self.parts], axis=0))
        images = {p.name: p.weight * p.workload.images for p in self.parts}
        time = {p.name: p.weight * each[p.name]["latency_s"] for p in self.parts}
        if name == "images_per_s":
            return np.asarray(sum(images.values()) / sum(time.values()))
        if name == "frames_per_s":
            frames = sum(p.weight * p.workload.frames for p in self.parts)
            return np.asarray((frames or np.nan) / sum(time.values()))
        weights: Mapping[str, float | Floats] = {p.name: p.weight for p in self.parts}
        weights = images if name in PER_IMAGE else weights if name in PER_REQUEST else time
        total = sum(weights.values())
        return np.asarray(sum(weights[p.name] * each[p.name][name] for p in self.parts) / total)


def outputs(names: Collection[str]) -> dict[str, str]:
    """Unit of every output of a mix of workloads of those names: of the mix, and of each where there are several."""
    each = {f"{name}.{output}": unit for name in names for output, unit in OUTPUTS.items()} if len(names) > 1 else {}
    return {**OUTPUTS, **{n: u for n, u in each.items() if n.partition(".")[2] not in OF_THE_DEVICE}}
