"""Collectives by operation, bytes and GPUs, over the links that the devices have or, across nodes, over the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

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
# s of one step of a ring, (with handshakes, with flags): protocols Simple and LL of nccl/src/graph/tuning.cc
STEPS = {"nvlink": (3.4e-6, 0.6e-6), "pcie": (5.7e-6, 1.0e-6), "network": (14e-6, 2.7e-6)}
STEP = STEPS["nvlink"][0]
PAIR = 2.0  # GPUs over PCIe up to which data goes from one to the other; more go through the host's memory, in and out, and share
# its link. Public L40S times at 4 and 8 GPUs, a quarter and an eighth to a tenth of the bandwidth of 2


def link(frame: pd.DataFrame) -> Link:
    """Bandwidth and latencies of a step, (rows,). Across nodes every GPU of a node has an adapter of its own."""
    ids = frame["device_id"].astype(str).str.split("-").str[0]
    in_pairs = frame["implementation"].astype(str).str.contains("pairwise").to_numpy()
    per_node = frame["gpus"].to_numpy(dtype=float) / nodes(frame)
    over_pcie = SHARE * PCIE / np.where(per_node > PAIR, per_node, 1.0)
    fast = ids.isin(list(NVLINK)).to_numpy()
    inside = np.where(fast, SHARE * ids.map(NVLINK).fillna(0.0).to_numpy(dtype=float), over_pcie)
    across = np.where(in_pairs, CLOUD, NETWORK) * np.maximum(per_node, 1.0)
    remote = nodes(frame) > 1
    step, flagged = (
        np.where(remote, STEPS["network"][i], np.where(fast, STEPS["nvlink"][i], STEPS["pcie"][i])) for i in range(2)
    )
    return Link(np.where(remote, across, inside), step, flagged)


def exchanges(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Rows of kernels that write to all others at once: a serving framework's own, where GPUs are joined by NVLink or in a pair;
    elsewhere it hands over to NCCL (vLLM, custom_all_reduce.py), which passes around a ring."""
    ids = frame["device_id"].astype(str).str.split("-").str[0]
    near = ids.isin(list(NVLINK)) | (frame["gpus"].astype(float) <= PAIR)
    by_nccl = frame["implementation"].astype(str).str.startswith("nccl")
    return np.asarray(near & ~by_nccl, dtype=bool)


def nodes(frame: pd.DataFrame) -> Floats:
    """Nodes of each row, one where the table does not say."""
    return frame["nodes"].fillna(1.0).to_numpy(dtype=float) if "nodes" in frame else np.ones(len(frame))


def physical(frame: pd.DataFrame, _: Rates, __: Terms) -> Physical:
    """The faster of a ring and a direct exchange; start-up of the library's kernel is a floor."""
    (size, gpus), joint, may = floats(frame, "bytes", "gpus"), link(frame), exchanges(frame)
    time, wire = np.zeros(len(frame)), np.zeros(len(frame))
    for op in sorted(set(frame["op"])):
        rows = (frame["op"] == op).to_numpy()
        own, name = Link(joint.bandwidth[rows], joint.latency[rows], joint.flagged[rows]), NAMES.get(op, op)
        time[rows] = seconds(name, size[rows], gpus[rows], own, may[rows])
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
    size=(96, 90),
)
