"""MLCommons Chakra execution traces, written and read: length-delimited protobuf messages, GlobalMetadata and then the nodes.

A call is a COMP_NODE. What Chakra has a field for is in that field: name, data dependencies (through activations), tensors
as in PyTorch's traces ([tensor id, storage id, offset, elements, element size, device]), and ASTRA-sim's attributes num_ops and
tensor_size. Dimensions, module path and repeats are attributes of the node; the rest of a trace is in the attributes of
the metadata, so that reading it back gives the same trace.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from hwspecs.errors import StudyError
from hwspecs.notes import say
from workloads.capture import CapturedCall
from workloads.formats.chakra_schema import COMP, VERSION, messages
from workloads.formats.rows import calls_of, header_of, restored
from workloads.kind import ITEMSIZE
from workloads.trace import Trace

PREFIX = "framecast."  # of the attributes that are ours
SCHEMA = "schema"  # attribute of the metadata of Chakra's PyTorch converter
LARGEST = 1 << 28  # bytes of one message: more is another format
TEXTS = ("kind", "dtype", "path")  # attributes of a node that are text
LISTS = ("dims", "inputs", "outputs")  # and lists of int64


def save(trace: Trace, file: BinaryIO) -> None:
    """Write a trace. Each call is a node, once: how often it runs is its attribute framecast.repeats."""
    metadata, node_class = messages()
    head = metadata(version=VERSION)
    for name, text in header_of(trace).items():
        head.attr.add(name=PREFIX + name, string_val=text)
    write_message(file, head)
    repeats, flops, writer = trace.call_repeats(), trace.op_flops()[trace.call_op], dict[int, int]()
    for index, call in enumerate(calls_of(trace)):
        node = node_class(id=index, name=call.label, type=COMP)
        node.data_deps.extend(dict.fromkeys(writer[t] for t in call.inputs if t in writer))
        node.inputs.CopyFrom(_tensors(trace, call, call.inputs))
        node.outputs.CopyFrom(_tensors(trace, call, call.outputs))
        node.attr.add(name="is_cpu_op", bool_val=False)
        node.attr.add(name="num_ops", int64_val=int(flops[index]))
        touched = dict.fromkeys((*call.inputs, *call.outputs))
        node.attr.add(name="tensor_size", uint64_val=sum(int(trace.tensor_bytes[t]) for t in touched))
        node.attr.add(name=PREFIX + "repeats", int64_val=int(repeats[index]))
        for name in TEXTS:
            node.attr.add(name=PREFIX + name, string_val=getattr(call, name))
        node.attr.add(name=PREFIX + "in_attention", bool_val=call.in_attention)
        for name in LISTS:
            node.attr.add(name=PREFIX + name).int64_list.values.extend(getattr(call, name))
            node.attr[-1].int64_list.SetInParent()
        write_message(file, node)
        writer.update(dict.fromkeys(call.outputs, index))


def load(path: Path) -> Trace:
    """Read a trace that framecast wrote, or that Chakra's converter made from PyTorch.

    Raises StudyError or SpecError for a file that is truncated, foreign, or of another version.
    """
    from google.protobuf.message import DecodeError

    try:
        stored = path.read_bytes()
    except OSError as error:
        raise StudyError(f"{path}: cannot read the trace: {(error.strerror or str(error)).lower()}") from None
    metadata, node_class = messages()
    parts = _parts(path, stored)
    try:
        head = metadata.FromString(next(parts, b""))
    except DecodeError:
        raise StudyError(f"{path}: not a Chakra trace: its first message is no GlobalMetadata") from None
    problem = _version(head)
    if problem:
        raise StudyError(f"{path}: {problem}")
    nodes = []
    for index, part in enumerate(parts):
        try:
            nodes.append(node_class.FromString(part))
        except DecodeError:
            raise StudyError(f"{path}: node {index} is damaged; export the trace again") from None
    header = {a.name.removeprefix(PREFIX): a.string_val for a in head.attr if a.name.startswith(PREFIX)}
    return _ours(path, header, nodes) if header else _from_torch(path, nodes)


def _version(head: Any) -> str:
    """What is wrong with the version of a GlobalMetadata, '' if nothing.

    Chakra's PyTorch converter leaves `version` empty. It copies the schema of PyTorch's trace into an attribute, for example
    '1.0.2-chakra.0.0.4': a version of PyTorch's, and that of Chakra (mlcommons/chakra, src/converter/pytorch_converter.py).
    """
    if head.version:
        return "" if head.version == VERSION else f"Chakra version {head.version!r}, expected {VERSION!r}"
    schema = next((a.string_val for a in head.attr if a.name == SCHEMA), "")
    if not schema:
        return f"names no Chakra version: neither its metadata nor an attribute '{SCHEMA}' does; expected {VERSION!r}"
    of_chakra = schema.partition("chakra.")[2]
    return "" if of_chakra == VERSION else f"Chakra schema {schema!r}, expected one that ends in 'chakra.{VERSION}'"


def _ours(path: Path, header: Mapping[str, str], nodes: Sequence[Any]) -> Trace:
    """The trace of nodes that framecast wrote."""
    calls = []
    for index, node in enumerate(nodes):
        try:
            calls.append(_call(node))
        except KeyError as error:
            raise StudyError(
                f"{path}: node {index} ('{node.name}') lacks the attribute {error}; export it again"
            ) from None
    return restored(path, header, calls)


def _from_torch(path: Path, nodes: Sequence[Any]) -> Trace:
    """The trace of nodes that hold operators of PyTorch with their shapes."""
    from workloads.formats import chakra_torch, profiler

    if not any("Tensor(" in node.inputs.types for node in nodes):
        wanted = "expected a trace that framecast wrote, or that Chakra's converter made from PyTorch"
        raise StudyError(f"{path}: none of its {len(nodes)} nodes holds an operator of PyTorch with shapes; {wanted}")
    try:
        timeline = chakra_torch.timeline(nodes)
    except ValueError as error:
        raise StudyError(f"{path}: {error}; export it again from PyTorch") from None
    measured = profiler.measured_of(path, timeline)
    for line in profiler.notes(measured):
        say(f"note: {path}: {line}")
    return measured.trace


def is_chakra(stored: bytes) -> bool:
    """Whether a file that begins with these bytes may be a Chakra trace: its first message begins with a version or an attribute.

    Both are length-delimited: a version is field 1; an attribute is field 2, and begins with its name, field 1.
    """
    size, at = _varint(stored, 0)
    if not 0 < size < LARGEST:
        return False
    if stored[at : at + 1] == b"\x0a":
        return True
    inner, name = _varint(stored, at + 1)
    return stored[at : at + 1] == b"\x12" and 0 < inner < size and stored[name : name + 1] == b"\x0a"


def _call(node: Any) -> CapturedCall:
    attributes = {a.name.removeprefix(PREFIX): a for a in node.attr if a.name.startswith(PREFIX)}
    dims, inputs, outputs = (tuple(attributes[name].int64_list.values) for name in LISTS)
    kind, dtype, path = (attributes[name].string_val for name in TEXTS)
    return CapturedCall(kind, dtype, dims, node.name, path, attributes["in_attention"].bool_val, inputs, outputs)


def _tensors(trace: Trace, call: CapturedCall, ids: Iterable[int]) -> Any:
    """An IOInfo: values, shapes and types, each a list as text, as PyTorch's execution traces have them."""
    values, shapes, types = [], [], []
    for tensor in ids:
        size = int(trace.tensor_bytes[tensor])
        item = ITEMSIZE[call.dtype] if size % ITEMSIZE[call.dtype] == 0 else 1
        values.append([tensor, tensor, 0, size // item, item, "meta"])
        shapes.append([size // item])
        types.append(f"Tensor({call.dtype})")
    _, node_class = messages()
    return type(node_class().inputs)(values=json.dumps(values), shapes=json.dumps(shapes), types=json.dumps(types))


def write_message(file: BinaryIO, message: Any) -> None:
    """Append one message, after its length as a varint."""
    data, size = message.SerializeToString(deterministic=True), bytearray()
    rest = len(data)
    while rest >= 0x80:
        size.append(rest & 0x7F | 0x80)
        rest >>= 7
    file.write(bytes(size) + bytes([rest]) + data)


def _parts(path: Path, stored: bytes) -> Iterator[bytes]:
    """The messages of a file. StudyError where it ends inside one."""
    at, index = 0, 0
    while at < len(stored):
        size, start = _varint(stored, at)
        if size < 0 or size > LARGEST or (index == 0 and not is_chakra(stored)):
            raise StudyError(f"{path}: not a Chakra trace: no message of a sensible length at byte {at}")
        if start + size > len(stored):
            raise StudyError(f"{path}: truncated in message {index}, at byte {len(stored)} of {start + size}")
        yield stored[start : start + size]
        at, index = start + size, index + 1


def _varint(stored: bytes, at: int) -> tuple[int, int]:
    """A base-128 integer (protobuf encoding, 'varints') and where it ends; -1 where there is none."""
    value = 0
    for i, byte in enumerate(stored[at : at + 10]):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    return -1, at


def to_bytes(trace: Trace) -> bytes:
    """The bytes of a Chakra file."""
    out = io.BytesIO()
    save(trace, out)
    return out.getvalue()
