"""Convolutions: on the fp32 lanes by the fastest (or the named) algorithm, on the matrix unit as an implicit GEMM.

Kernels of the matrix unit read channels last, so tensors that are not are converted around them. A row is on the matrix unit
where its dtype has 16 bits, or where it says that TF32 is allowed (`math`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from calib.convolutions import ALGORITHMS, FUSED, IMAGES, PLANES, Shape, seconds, shape
from calib.families.base import Family, Floats, Physical, joined
from hwspecs.rates import Rates
from sim import gemm_reference as reference
from sim.calibration import Terms
from sim.cost import BOUNDS
from workloads.kind import ITEMSIZE

if TYPE_CHECKING:
    import pandas as pd

OPS = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
FEWEST = (
    4.0  # times that F(4x4, 3x3) multiplies less than the definition (Lavin and Gray 2015); FFT here does not exceed it
)
ACCESS = (
    16.0  # B of one aligned load, to which channels are padded on the matrix unit (cuDNN developer guide, tensor cores)
)
QUANTA = {"k": (32.0, 64.0, 128.0), "c": (8.0,)}


@dataclass(frozen=True)
class Unit:
    """What convolutions on the matrix unit, and those that stay on the lanes beside it, have of their own.

    Attributes:
        convert: ratio, time of a conversion of layout over that of a stream of its bytes.
        grouped: ratio, time of transposed convolutions in groups over that of an implicit GEMM of each.
        depthwise: cycles of an SM for each product of a depthwise convolution, channels last.
        access_3d: B to which input channels are padded in three dimensions.
        few: input channels below which eager two-dimensional fp32 stays on the fp32 lanes.
    """

    convert: float
    grouped: float
    depthwise: float
    access_3d: float
    few: float


# `python -m calib.conv_unit TABLES` on 91 public TF32 and fp16 times of A100s; standard errors 0.3, 0.2, 0.7. The accuracy page
# scores fits that did not see the problem (docs/accuracy.md).
UNIT = Unit(convert=1.34, grouped=3.28, depthwise=8.79, access_3d=32.0, few=4.0)


def part(frame: pd.DataFrame) -> pd.Series[Any]:
    """'tensor' for rows that may use the matrix unit, 'fp32' for the others."""
    allowed = frame["math"].astype(str).str.startswith("tf32") if "math" in frame else frame["dtype"] == "tf32"
    return ((frame["dtype"] != "fp32") | allowed).map({True: "tensor", False: "fp32"})


def physical(frame: pd.DataFrame, rates: Rates, terms: Terms, unit: Unit = UNIT) -> Physical:
    """Of either part; the host's dispatch apart, which is a floor."""
    s, on_unit = shape(frame), (part(frame) == "tensor").to_numpy()
    found = seconds(s, rates, terms.hbm_stream)
    algorithm = _algorithms(frame)
    each = np.stack([found[name] for name in ALGORITHMS], axis=1)
    named = np.stack([algorithm == name for name in ALGORITHMS], axis=1)
    known = named.any(axis=1) & np.isfinite(np.where(named, each, np.inf).min(axis=1))
    time = np.where(known, np.where(named, each, np.inf).min(axis=1), each.min(axis=1))
    mask = on_unit & ~_on_lanes(frame, s, unit.few)
    time = np.where(on_unit & ~mask, _lanes(frame, s, found["implicit_gemm"], rates, terms, unit), time)
    if mask.any():
        time[mask] = _tensor(frame[mask], rates, terms, unit)
    lanes = float(np.max(rates.vector["fp32"]))
    matrix = np.maximum(
        frame["dtype"].map(lambda t: float(np.max(rates.matmul("tf32" if t == "fp32" else t)))).to_numpy(), lanes
    )
    peak = np.where(on_unit, matrix, lanes) * np.max(rates.sm_count) * np.max(rates.sm_clock)
    least = s.flops / peak / np.where(on_unit, 1.0, FEWEST)
    moved = frame["dtype"].map(ITEMSIZE).to_numpy(dtype=float) * (s.x + s.w + s.y)
    hbm = moved / np.max(rates.hbm_bandwidth)
    cold = np.maximum(moved - np.max(rates.l2_capacity), 0.0) / np.max(rates.hbm_bandwidth)
    finite = {name: np.where(np.isfinite(values), values, 0.0) for name, values in found.items()}
    bound = np.where(hbm > 0.5 * time, BOUNDS.index("hbm"), BOUNDS.index("compute")).astype(np.int64)
    return Physical(time, {**finite, "compute": s.flops / peak, "hbm": hbm}, bound, np.maximum(least, cold))


def abroad(frame: pd.DataFrame, rates: Rates, terms: Terms) -> Physical:
    """The same on a device that no fit is for: there, compiled depthwise kernels stream as torch's own do. What `Unit.depthwise`
    says is of a kernel that the library takes on the A100: the same public shapes take a half to a tenth of its time
    on an RTX A6000."""
    return physical(frame, rates, terms, replace(UNIT, depthwise=0.0))


def _algorithms(frame: pd.DataFrame) -> Any:
    """The algorithm that each row names, '' where none."""
    return (frame["algorithm"].fillna("").astype(str) if "algorithm" in frame else joined(frame)).to_numpy()


def _compiled(frame: pd.DataFrame) -> Any:
    """Rows of compiled code, which converts to channels last."""
    column = frame["code_path"].astype(str).str.startswith("compile") if "code_path" in frame else frame["op"] == ""
    return column.to_numpy()


def _on_lanes(frame: pd.DataFrame, s: Shape, few: float) -> Any:
    """fp32 rows for which cuDNN has no kernel on the matrix unit, or a faster one beside it: groups, and very few channels."""
    plane = frame["op"].isin(["conv1d", "conv2d"]).to_numpy() & (s.c < few) & (s.taps > 1) & ~_compiled(frame)
    return (frame["dtype"] == "fp32").to_numpy() & ((s.groups > 1) | plane)


def _lanes(frame: pd.DataFrame, s: Shape, implicit: Floats, rates: Rates, terms: Terms, unit: Unit) -> Floats:
    """Seconds on the fp32 lanes of rows that could use TF32: depthwise kernels of torch's own, groups, few channels."""
    depthwise, transposed = (s.groups > 1) & (s.c == 1), frame["op"].str.contains("transpose").to_numpy()
    streamed = ITEMSIZE["fp32"] * (s.x + s.w + s.y) / (np.max(rates.hbm_bandwidth) * terms.hbm_stream)
    per_product = unit.depthwise / (np.max(rates.sm_count) * np.max(rates.sm_clock))
    alone = np.where(_compiled(frame), np.maximum(streamed, s.flops / 2.0 * per_product), streamed)
    grouped = np.where(transposed & (s.groups > 1), unit.grouped, 1.0)
    return np.asarray(np.where(depthwise, alone, grouped * implicit))


def _tensor(frame: pd.DataFrame, rates: Rates, terms: Terms, unit: Unit) -> Floats:
    """Seconds of the implicit GEMM on the matrix unit and of the conversions to channels last and back."""
    out = np.zeros(len(frame))
    for dtype in sorted(frame["dtype"].unique()):
        rows = (frame["dtype"] == dtype).to_numpy()
        out[rows] = _of_dtype(frame[rows], "tf32" if dtype == "fp32" else dtype, rates, terms, unit)
    return out


def _of_dtype(frame: pd.DataFrame, dtype: str, rates: Rates, terms: Terms, unit: Unit) -> Floats:
    s, item = shape(frame), float(ITEMSIZE[dtype])
    volume = frame["op"].str.endswith("3d").to_numpy()
    aligned = np.where(volume, unit.access_3d, ACCESS) / item
    c = np.ceil(s.c / aligned) * aligned
    moved = item * (s.x + s.w + s.y)
    loop = reference.loop(
        reference.Shapes(s.groups, s.n * s.positions, s.k, c * s.taps, np.zeros(len(frame)), moved, item, dtype),
        rates,
        terms,
    )
    # The taps overlap: the implicit GEMM reads each input once from memory, not once a tap.
    hbm = moved / (np.max(rates.hbm_bandwidth) * terms.hbm_tile)
    gemm = np.maximum(loop, hbm)  # what `fixed` writes out goes through memory too
    first = (
        (frame["layout"].astype(str) if "layout" in frame else joined(frame)).isin(["nchw", "ncdhw", "ncl"]).to_numpy()
    )
    whole = (s.taps == 1) & (s.plain > 0) & ~_compiled(frame)  # a product over channels as the tensor lies
    copies = np.where(first & ~whole, 2.0 * unit.convert * moved, 0.0) / (
        np.max(rates.hbm_bandwidth) * terms.hbm_stream
    )
    return np.asarray(gemm + copies)


def features(frame: pd.DataFrame, priced: Physical, rates: Rates) -> dict[str, Floats]:
    """Extents, what tiles pad, whole waves, and how near the algorithms are to each other; logarithms to base 2."""
    s, sms = shape(frame), float(np.max(rates.sm_count))
    _, h, w = s.out
    rows, columns, channels = FUSED
    images, across = np.ceil(s.n / IMAGES) * IMAGES, np.ceil(h / 4.0) * np.ceil(w / 4.0)
    tiles, fused = images * across, s.n * np.ceil(h / rows) * np.ceil(w / columns)
    blocks = 36.0 * np.ceil(tiles / PLANES[0]) * np.ceil(s.k / PLANES[1])
    per_algorithm = np.stack([np.where(priced.terms[a] > 0, priced.terms[a], 1.0) for a in ALGORITHMS], axis=1)
    best = per_algorithm.min(axis=1)
    out: dict[str, Any] = {
        "n": np.log2(s.n), "c": np.log2(s.c), "k": np.log2(s.k), "h": np.log2(h), "ck": np.log2(s.c * s.k),
        "tiles": np.log2(tiles), "of_tiles": np.log2(across * 16.0 / (h * w)), "of_images": np.log2(images / s.n),
        "to_planes": np.log2(np.ceil(tiles / PLANES[0]) * PLANES[0] / tiles),
        "of_fused": np.log2(fused * rows * columns / (s.n * h * w)),
        "reuse": np.log2(tiles * s.c * s.k / (tiles * (s.c + s.k) + s.c * s.k)),
        "time": np.log2(priced.time / 1e-4), "floor_share": np.log2(best / priced.time),
        "waves_planes": _waves(blocks / sms), "waves_fused": _waves(fused * np.ceil(s.k / channels) / sms),
        **{f"{a}_over_best": np.minimum(np.log2(per_algorithm[:, i] / best), 3.0) for i, a in enumerate(ALGORITHMS)},
    }  # fmt: skip
    for name, steps in QUANTA.items():
        extent = getattr(s, name)
        out |= {f"{name}_to_{q:.0f}": np.minimum(np.log2(np.ceil(extent / q) * q / extent), 3.0) for q in steps}
    return out


def _waves(per_sm: Floats) -> Floats:
    """Share that the last, part-filled wave adds, as a logarithm; at most 3."""
    return np.minimum(np.log2(np.ceil(per_sm) / per_sm), 3.0)


def condition(frame: pd.DataFrame) -> pd.Series[Any]:
    """The algorithm where the row names it (it says more than the software), else unknown."""
    import pandas as pd

    return pd.Series(_algorithms(frame), index=frame.index)


def floor(frame: pd.DataFrame) -> pd.Series[Any]:
    """The dispatch of a convolution by a software and code path, for rows that hold it: they say so, or time one eager call."""
    path = frame["code_path"].fillna("eager").astype(str).str.split("_").str[0] if "code_path" in frame else "eager"
    label = "conv | " + frame["software"].fillna("").astype(str) + " " + path
    launched = frame["timing"].astype(str) == "with_launch"
    if "method" in frame:
        launched |= frame["method"].astype(str).str.contains("eager call")
    return label.where(launched, "")


FAMILY = Family(
    name="conv",
    ops=OPS,
    physical=physical,
    features=features,
    groups=lambda frame: joined(frame, "in_channels", "out_channels"),
    condition=condition,
    floor=floor,
    extents=("batch", "in_channels", "out_channels", "height", "width"),
    fitted=("hbm_stream",),
    part=part,
    abroad=abroad,
    size=(16, 50),
    recipe={
        "depth": 2,
        "batch": 128,
        "noise": 0.1,
        "decay": 0.3,
        "relative": True,
        "least_steps": 1500,
    },
)
