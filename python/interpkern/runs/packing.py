"""A cell's file: parquet that anyone can read, with what made it and a checksum of every byte inside."""

import hashlib
import io
import json
import re
from typing import Any

import pyarrow
from pyarrow import parquet

from interpkern.runs.cells import Cell, Result, canonical

KIND = "interpkern.runs.cell"
SCHEMA = 1
RECORD, CHECKSUM = b"interpkern", b"interpkern.checksum"
BLANK = b"sha256:" + b"0" * 64
SMALL: dict[str, Any] = {"compression": "zstd", "write_statistics": False, "store_schema": False}
STAMP = re.compile(rb"sha256:[0-9a-f]{64}")


class Damaged(ValueError):
    """A file that is not what was written."""


def pack(cell: Cell, result: Result) -> bytes:
    """The file of a cell."""
    record = canonical({"kind": KIND, "schema": SCHEMA, "cell": cell.identity, "record": dict(result.record)})
    table = pyarrow.Table.from_pandas(result.table, preserve_index=False).replace_schema_metadata(None)
    buffer = io.BytesIO()
    with parquet.ParquetWriter(buffer, table.schema, **SMALL) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({RECORD: record.encode(), CHECKSUM: BLANK})
    return stamped(buffer.getvalue())


def unpack(cell: Cell, content: bytes) -> Result:
    """What `pack` was given; Damaged where a byte differs, or where the file is another cell's."""
    file = parquet.ParquetFile(io.BytesIO(checked(content)))
    record = json.loads(file.metadata.metadata[RECORD])
    if record["schema"] != SCHEMA:
        raise Damaged(f"it has schema {record['schema']}, this version reads {SCHEMA}")
    if record["cell"] != cell.identity:
        raise Damaged("it is the file of another cell")
    return Result(file.read().to_pandas(), record["record"])


def pack_json(record: dict[str, Any]) -> bytes:
    """A record as JSON with a checksum."""
    return stamped(json.dumps(record | {"checksum": BLANK.decode()}, indent=1, allow_nan=False).encode() + b"\n")


def unpack_json(content: bytes) -> dict[str, Any]:
    """The record that `pack_json` was given; Damaged where a byte differs."""
    record: dict[str, Any] = json.loads(checked(content))
    del record["checksum"]
    return record


def stamped(content: bytes) -> bytes:
    """The bytes with their SHA-256 in place of the one blank."""
    if len(STAMP.findall(content)) != 1:
        raise ValueError("a file must hold the text of one checksum, and no other")
    return content.replace(BLANK, _digest(content))


def checked(content: bytes) -> bytes:
    """The bytes, if their checksum is right."""
    found = STAMP.findall(content)
    if len(found) != 1:
        raise Damaged(f"it holds {len(found)} checksums, expected 1")
    if _digest(content.replace(found[0], BLANK)) != found[0]:
        raise Damaged("its checksum is wrong")
    return content


def _digest(content: bytes) -> bytes:
    return b"sha256:" + hashlib.sha256(content).hexdigest().encode()
