"""Collectives by operation, bytes and GPUs, over the links that the devices have or, across nodes, over the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from calib.families.base import Family, Floats, Physical, floats, joined
from hwspecs.rates import Rates
from sim.calibration import Terms
from sim.collectives import Link, seconds, wire_bytes
from sim.cost import BOUNDS

if TYPE_CHECKING:
    import pandas as pd

NAMES = {"alltoall": "all_to_all"}  # as nccl-tests spells it -> ours
OPS = ("all_reduce", "all_gather", "reduce_scatter", "alltoall", "send_recv")
# B/s of one GPU in one direction. NVLink 3: 12 links of 25 GB/s (A100 whitepaper); NVLink 4: 18 of 25 (H100 whitepaper);
# PCIe 4.0 x16: 31.5 GB/s less packet headers (PCI-SIG base specification).
NVLINK = {"a100": 300e9, "h100": 450e9, "h200": 450e9}
PCIE = 26e9
SHARE = 0.75  # of that which large buffers reach: public nccl-tests times, 216 GB/s of bus bandwidth on eight A100
NETWORK = 9.2e9  # B/s of one adapter across nodes; public NCCL send_recv of 64 MB between two A100 servers, 7.3 ms
CLOUD = 2.5e9  # the same for machines with GPUs bridged in pairs: 20 Gbit/s a GPU (Azure NC A100 v4)
FASTEST = 2.0  # times the ring's traffic that no algorithm can beat: a switch that adds halves that of an all_reduce
STEP = 3.4e-6  # s of one step between GPUs over NVLink, simple protocol (nccl/src/graph/tuning.cc)
STEP_NETWORK = 14e-6  # s; the same table, across the network


def link(frame: pd.DataFrame) -> Link:
    """Bandwidth and latency of a step, (rows,). Across nodes every GPU of a node has an adapter of its own."""
    ids = frame["device_id"].astype(str).str.split("-").str[0]
    in_pairs = frame["implementation"].astype(str).str.contains("pairwise").to_numpy()
    per_node = frame["gpus"].to_numpy(dtype=float) / nodes(frame)
    inside = SHARE * ids.map(NVLINK).fillna(PCIE).to_numpy(dtype=float)
    across = np.where(in_pairs, CLOUD, NETWORK) * np.maximum(per_node, 1.0)
    remote = nodes(frame) > 1
    return Link(np.where(remote, across, inside), np.where(remote, STEP_NETWORK, STEP))


def nodes(frame: pd.DataFrame) -> Floats:
    """Nodes of each row, one where the table does not say."""
    return frame["nodes"].fillna(1.0).to_numpy(dtype=float) if "nodes" in frame else np.ones(len(frame))


def physical(frame: pd.DataFrame, _: Rates, __: Terms) -> Physical:
    """The faster of a ring and a direct exchange; start-up of the library's kernel is a floor."""
    (size, gpus), joint = floats(frame, "bytes", "gpus"), link(frame)
    time, wire = np.zeros(len(frame)), np.zeros(len(frame))
    for op in sorted(set(frame["op"])):
        rows = (frame["op"] == op).to_numpy()
        own, name = Link(joint.bandwidth[rows], joint.latency[rows]), NAMES.get(op, op)
        time[rows] = seconds(name, size[rows], gpus[rows], own)
        wire[rows] = wire_bytes(name, size[rows], gpus[rows]) / own.bandwidth
    bound = np.where(wire > time / 2, BOUNDS.index("link"), BOUNDS.index("latency"))
    return Physical(time, {"link": wire, "latency": time - wire}, bound.astype(np.int64), wire * SHARE / FASTEST)


def features(frame: pd.DataFrame, priced: Physical, _: Rates) -> dict[str, Floats]:
    """Size, GPUs, nodes and what bounds the time; which collective. Logarithms to base 2."""
    size, gpus = floats(frame, "bytes", "gpus")
    share: Any = priced.terms["link"] / np.maximum(priced.time, 1e-12)
    return {
        "bytes": np.log2(size), "gpus": np.log2(gpus), "nodes": nodes(frame), "share_link": share,
        "per_gpu": np.log2(size / gpus), "steps": np.log2(np.maximum(priced.terms["latency"], 1e-9) / STEP),
        "int8": (frame["dtype"] == "int8").to_numpy(dtype=float),
        **{f"op_{op}": (frame["op"] == op).to_numpy(dtype=float) for op in OPS},
    }  # fmt: skip


def library(frame: pd.DataFrame) -> pd.Series[Any]:
    """Implementation and software: custom kernels of serving frameworks and NCCL differ more than devices do."""
    return joined(frame, "implementation", "software")


def start_up(frame: pd.DataFrame) -> pd.Series[Any]:
    """Start of the library's kernel, or its dispatch where the row holds it: by collective, library, GPUs and nodes."""
    return (
        frame["op"].astype(str)
        + " | "
        + library(frame)
        + " "
        + joined(frame.assign(nodes=nodes(frame)), "gpus", "nodes")
    )


FAMILY = Family(
    name="collective",
    ops=OPS,
    physical=physical,
    features=features,
    groups=lambda frame: joined(frame, "bytes", "gpus"),
    condition=library,
    floor=start_up,
    extents=("bytes", "gpus", "nodes"),
    size=(96, 150),
)
