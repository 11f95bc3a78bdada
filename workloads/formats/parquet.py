"""A trace as a Parquet table, one row a call, for other programs; the rest of it is in the schema's metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hwspecs.errors import StudyError
from workloads.capture import CapturedCall
from workloads.formats.rows import calls_of, header_of, restored
from workloads.trace import Trace

PREFIX = "framecast."
VERSION = "1"  # of these columns; metadata framecast.schema_version
COLUMNS = {
    "kind": "string", "dtype": "string", "dims": "ints", "label": "string", "path": "string", "in_attention": "bool",
    "inputs": "ints", "outputs": "ints",
}  # fmt: skip  # those of a call that are read back
MORE = {
    "segment": "string",
    "repeats": "int64",
    "flops": "int64",
}  # for whoever reads the table; follow from the others


def save(trace: Trace, path: Path) -> None:
    """Write a trace to a file. OSError where that cannot be."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    calls, segments = calls_of(trace), trace.call_segment()
    columns: dict[str, Any] = {name: [getattr(call, name) for call in calls] for name in COLUMNS}
    columns["segment"] = [trace.segments[int(i)].name for i in segments]
    columns["repeats"] = trace.call_repeats().tolist()
    columns["flops"] = trace.op_flops()[trace.call_op].tolist()
    metadata = {"schema_version": VERSION, **header_of(trace)}
    schema = _schema().with_metadata({PREFIX + name: text for name, text in metadata.items()})
    pq.write_table(pa.table(columns, schema=schema), path)


def load(path: Path) -> Trace:
    """Read a trace that `save` wrote. StudyError for a file that is missing, damaged, or of another program."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        metadata = {key.decode(): text.decode() for key, text in (table.schema.metadata or {}).items()}
        rows = table.select([name for name in COLUMNS if name in table.column_names]).to_pylist()
    except FileNotFoundError:
        raise StudyError(f"{path}: cannot read the trace: no such file or directory") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        raise StudyError(f"{path}: truncated or damaged (Parquet); export the trace again") from None
    header = {name.removeprefix(PREFIX): text for name, text in metadata.items() if name.startswith(PREFIX)}
    if header.get("schema_version") != VERSION:
        found = header.get("schema_version")
        text = f"a table of schema version {found}, expected {VERSION}: a trace that framecast wrote"
        raise StudyError(f"{path}: {text}")
    known = _schema()
    for name in COLUMNS:
        if name not in table.column_names or table.schema.field(name).type != known.field(name).type:
            text = f"column '{name}' is missing or of another type, expected {known.field(name).type}"
            raise StudyError(f"{path}: {text}")
        if table.column(name).null_count:
            raise StudyError(f"{path}: column '{name}' has empty cells; export the trace again")
    lists = ("dims", "inputs", "outputs")
    return restored(path, header, [CapturedCall(**{**row, **{n: tuple(row[n]) for n in lists}}) for row in rows])


def is_parquet(stored: bytes) -> bool:
    """Whether a file that begins with these bytes is Parquet."""
    return stored[:4] == b"PAR1"


def _schema() -> Any:
    import pyarrow as pa

    types = {"string": pa.string(), "bool": pa.bool_(), "int64": pa.int64(), "ints": pa.list_(pa.int64())}
    return pa.schema([(name, types[kind]) for name, kind in {**COLUMNS, **MORE}.items()])
