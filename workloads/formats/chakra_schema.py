"""The messages of MLCommons Chakra execution traces (et_def.proto), from a descriptor built here; nothing to generate."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

VERSION = "0.0.4"  # of GlobalMetadata, as Chakra's converters write it
COMP, COLLECTIVE = 4, 7  # node types
NODE_TYPES = {
    "INVALID_NODE": 0, "METADATA_NODE": 1, "MEM_LOAD_NODE": 2, "MEM_STORE_NODE": 3, "COMP_NODE": COMP,
    "COMM_SEND_NODE": 5, "COMM_RECV_NODE": 6, "COMM_COLL_NODE": COLLECTIVE,
}  # fmt: skip
SCALARS = (
    "double", "float", "int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32",
    "sfixed64", "bool", "string", "bytes",
)  # fmt: skip  # fields 3, 5, 7 ... of AttributeProto, each followed by its list type


@cache
def messages() -> tuple[Any, Any]:
    """The classes GlobalMetadata and Node."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="framecast/chakra.proto", package="ChakraProtoMsg", syntax="proto3")
    types = file.enum_type.add(name="NodeType")
    for name, number in NODE_TYPES.items():
        types.value.add(name=name, number=number)
    for scalar in SCALARS:
        _message(file, f"{scalar.capitalize()}List", (("values", 1, scalar, True),))
    attribute = _message(file, "AttributeProto", (("name", 1, "string", False), ("doc_string", 2, "string", False)))
    attribute.oneof_decl.add(name="value")
    for name, number, kind in _values():
        _field(attribute, name, number, kind, False).oneof_index = 0
    _message(file, "GlobalMetadata", (("version", 1, "string", False), ("attr", 2, "AttributeProto", True)))
    _message(file, "IOInfo", tuple((n, i, "string", False) for i, n in enumerate(("values", "shapes", "types"), 1)))
    node = _message(
        file,
        "Node",
        (
            ("id", 1, "uint64", False), ("name", 2, "string", False), ("ctrl_deps", 4, "uint64", True),
            ("data_deps", 5, "uint64", True), ("start_time_micros", 6, "uint64", False),
            ("duration_micros", 7, "uint64", False), ("inputs", 8, "IOInfo", False), ("outputs", 9, "IOInfo", False),
            ("attr", 10, "AttributeProto", True),
        ),
    )  # fmt: skip
    node.field.add(name="type", number=3, label=1, type=14, type_name=".ChakraProtoMsg.NodeType")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = (pool.FindMessageTypeByName(f"ChakraProtoMsg.{name}") for name in ("GlobalMetadata", "Node"))
    metadata, node_class = (message_factory.GetMessageClass(descriptor) for descriptor in found)
    return metadata, node_class


def _values() -> Iterator[tuple[str, int, str]]:
    """Name, number and type of each field of AttributeProto's oneof."""
    for i, scalar in enumerate(SCALARS):
        yield f"{scalar}_val", 3 + 2 * i, scalar
        yield f"{scalar}_list", 4 + 2 * i, f"{scalar.capitalize()}List"


def _message(file: Any, name: str, fields: tuple[tuple[str, int, str, bool], ...]) -> Any:
    message = file.message_type.add(name=name)
    for field in fields:
        _field(message, *field)
    return message


def _field(message: Any, name: str, number: int, kind: str, repeated: bool) -> Any:
    """A field of a scalar type, or of a message by its name."""
    made = message.field.add(name=name, number=number, label=3 if repeated else 1)
    if kind in SCALARS:
        made.type = getattr(type(made), f"TYPE_{kind.upper()}")
    else:
        made.type, made.type_name = type(made).TYPE_MESSAGE, f".ChakraProtoMsg.{kind}"
    return made
