"""Software: how calls may be run on a device, and what the host costs; beside the device in a scenario."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from hwspecs import catalogue
from hwspecs.nodes import Node
from hwspecs.spec import CONFIG, Doc, Quantity

FOLDER = catalogue.DATA / "software"

Algorithms = Annotated[
    tuple[Literal["implicit-gemm"], ...], Field(min_length=1), Doc("algorithms that the library may choose from")
]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Convolution:
    """How the library runs convolutions."""

    layout: Annotated[Literal["nchw", "nhwc"], Doc("order of activations in memory; nchw is transposed around kernels")]
    algorithms: Algorithms


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Tf32:
    """Whether fp32 products may run on the matrix units as TF32; torch's defaults differ for the two."""

    matmul: Annotated[bool, Doc("torch.backends.cuda.matmul.allow_tf32")]
    convolution: Annotated[bool, Doc("torch.backends.cudnn.allow_tf32")]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Software:
    """The stack between a model and a device; knows no device's speed."""

    name: Annotated[str, Doc("id: the name of the file", descriptive=True)]
    title: Annotated[str, Doc("name for people", descriptive=True)]
    attention: Annotated[
        Literal["unfused", "flash-1", "flash-2", "flash-3", "auto"],
        Doc(
            "unfused: scores through memory; flash-2: one fused kernel, where the library has one; flash-1: its slower "
            "predecessor in torch 2.0 and 2.1; flash-3: a fused kernel for the device's own matrix instructions "
            "(FlashAttention-3, cuDNN, TensorRT-LLM); auto: the faster of unfused and flash-2, per call"
        ),
    ]
    convolution: Convolution
    fusion: Annotated[
        Literal["eager", "pointwise"],
        Doc("eager: a kernel an operator; pointwise: chains of pointwise operators in one kernel"),
    ]
    rms_norm: Annotated[
        Literal["fused", "separate"],
        Doc(
            "fused: one kernel (torch 2.9 and later); separate: the operators that define it, as eager torch before that"
        ),
    ] = "fused"
    cuda_graphs: Annotated[bool, Doc("kernels are replayed from a graph, without host time between them")]
    tf32: Tf32
    host_time_per_launch: Annotated[
        float, Quantity("s", ge=0, doc="host time to launch one operator, all of its kernels included")
    ]
    sources: Annotated[dict[str, str], Doc("field or group of fields -> where its value comes from", descriptive=True)]
    chosen: ClassVar[tuple[str, ...]] = ("convolution", "tf32")  # groups that say what is run, and need no source

    def __post_init__(self) -> None:
        catalogue.check_sources(self)


def software_names() -> list[str]:
    """The software stacks that framecast carries, sorted."""
    return catalogue.names(FOLDER)


def software_node(name: str) -> Node:
    """The tree of a software stack, to override and `build`; an id or a path to a YAML file. SpecError."""
    return catalogue.node("software", FOLDER, name)


def load(name: str) -> Software:
    """A software stack by its id or the path to its YAML file. SpecError if there is none or it is not valid."""
    return catalogue.load(Software, "software", FOLDER, name)
