"""Device names of measurement tables -> our ids, and the peaks that no measurement may exceed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

# chip -> id -> (form, GB), '' where the chip comes in one only; a name that says neither stands for all that are left.
CHIPS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "a100": {
        "a100-sxm-80gb": ("sxm", "80"), "a100-sxm-40gb": ("sxm", "40"), "a100-pcie-80gb": ("pcie", "80"),
        "a100-pcie-40gb": ("pcie", "40"),
    },
    "h100": {"h100-sxm": ("sxm", "80"), "h100-pcie": ("pcie", "80")}, "h20": {"h20": ("", "96")},
    "h200": {"h200": ("sxm", "")}, "b200": {"b200": ("sxm", "")}, "gb200": {"gb200": ("", "")}, "l40s": {"l40s": ("", "")},
    "l4": {"l4": ("", "")}, "v100": {"v100-pcie": ("pcie", ""), "v100-sxm2": ("sxm", "")},
    "t4": {"t4": ("", "")}, "p100": {"p100-pcie": ("pcie", "16")},
    "a10": {"a10": ("", "")}, "a10g": {"a10g": ("", "")}, "a6000": {"rtx-a6000": ("", "")}, "a30": {"a30": ("", "")},
    "l20": {"l20": ("", "")}, "a40": {"a40": ("", "")}, "l40": {"l40": ("", "")}, "6000[ -]ada": {"rtx-6000-ada": ("", "")},
    "3090": {"rtx-3090": ("", ""), "rtx-3090-ti": ("ti", "")}, "4090": {"rtx-4090": ("", "")},
}  # fmt: skip
# Only where the name says the form: H100 alone is the SXM part, RTX 3090 not the Ti.
STATED = ("h100-pcie", "rtx-3090-ti")
# Parts with the name of one of ours and another chip: RTX 4090 D, parts of laptops, RTX A6000 "Ada", H20-3e of 141 GB, V100 SXM3.
UNLIKE = r"laptop|max-q|4090 d\b|a6000[ -]ada|h20-3e|sxm3"
FORMS = {"sxm": r"sxm\d?|nvlink", "pcie": r"pcie", "nvl": r"nvl", "ti": r"ti"}

# Words of a device's name, beside those of ids, that `asked_for` reads: vendors' and sorts, forms, sizes.
WORDS = ("nvidia", "tesla", "geforce", "rtx", "gpu", "tensor", "core", "generation", "ada")
MEASURES = r"\d+gb|sxm\d?|nvlink|pcie|nvl|ti|hbm\d?[ae]?"


@dataclass(frozen=True)
class Peaks:
    """FLOP/s of matrix products by dtype (a dtype that is missing is one that the device lacks), B/s of memory, B of L2."""

    flops: Mapping[str, float]
    bandwidth: float
    l2: float


# Devices that tables name and that have no file among ours. NVIDIA Ampere GA102
# whitepaper v2.1 (RTX 3090 Ti: fp16 with fp16 accumulation). TFLOP/s without sparsity, GB/s, MB.
OTHERS = {
    "rtx-3090-ti": Peaks({"fp16": 160e12, "bf16": 80e12, "tf32": 40e12, "fp32": 40e12, "int8": 320e12}, 1008e9, 6e6),
}


@cache
def device_ids(name: str) -> tuple[str, ...]:
    """Ids that a device's name in a table stands for: one, several where the name leaves it open, none where it is unknown.

    'NVIDIA A100-SXM4-80GB' -> a100-sxm-80gb; 'A100-80GB' -> the two of 80 GB; 'H100' -> h100-sxm; 'H100 NVL' -> none,
    since we have no such device; 'RTX 4090 Laptop GPU' -> none, since it is another chip.
    """
    text = name.lower()
    if re.search(UNLIKE, text):
        return ()
    ids = next((CHIPS[chip] for chip in CHIPS if re.search(rf"(?<![a-z0-9]){chip}(?![0-9a-z])", text)), {})
    forms = [form for form, pattern in FORMS.items() if re.search(rf"(?<![a-z])(?:{pattern})(?![a-z0-9])", text)]
    size = re.search(r"(\d+) ?gb", text)
    exact = any(form in forms for form, _ in ids.values())
    return tuple(
        id_
        for id_, (form, gb) in ids.items()
        if (form in forms if exact else not form if forms else id_ not in STATED)
        and (not size or not gb or size[1] == gb)
    )


def asked_for(name: str) -> tuple[str, ...]:
    """As `device_ids`, of a name that a user gives: none where a word of it says nothing that we know ('a100-sxm-80g')."""
    words = re.split(r"[^a-z0-9]+", re.sub(r"(\d) gb", r"\1gb", name.lower()))
    known = {*WORDS, *(word for chip in CHIPS.values() for id_ in chip for word in id_.split("-"))}
    return device_ids(name) if all(w in known or re.fullmatch(MEASURES, w) for w in words if w) else ()


@cache
def peaks(id_: str) -> Peaks:
    """Peaks of a device of ours, from its file, or of one of OTHERS. KeyError for an id that is neither."""
    if id_ in OTHERS:
        return OTHERS[id_]
    from hwspecs import device

    if id_ not in device.device_names():
        raise KeyError(id_)
    d = device.load(id_)
    own = {dtype: d.flop_rate("tensor", dtype) for dtype in device.DTYPES}
    own["fp32"] = max(own["fp32"], d.flop_rate("vector", "fp32"))
    own["fp16"] = max(own["fp16"], d.flop_rate("vector", "fp16"))  # packed fp16 on the lanes, as on P100
    return Peaks({dtype: rate for dtype, rate in own.items() if rate > 0}, d.hbm.bandwidth, d.l2.capacity)
