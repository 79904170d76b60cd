"""Tables of images as files, read in blocks: CSV, JSON lines, Parquet."""

import csv
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_BLOCK_ROWS = 2000  # few: their text stays small beside the columns, and Python's garbage collector seldom runs


class Block(NamedTuple):
    """Rows of a table. names: of all its columns. columns: name -> values of those asked for, all of one length.
    numbers: each row's line; unit: "line" or "row"."""

    names: Sequence[str]
    columns: Mapping[str, Sequence[Any]]
    numbers: Sequence[int]
    unit: str = "line"

    def __len__(self) -> int:
        return len(self.numbers)

    def line(self, place: int) -> str:
        """Where a row of this block stands, for an error."""
        return f"{self.unit} {self.numbers[place]}"


def read_blocks(path: Path, wanted: Collection[str]) -> Iterator[Block]:
    """The columns `wanted` of the table, as far as it has them, in blocks of rows; its ending says how it is written.
    A file without rows gives one empty block.

    CSV has a header and is UTF-8; bytes that are not survive as the file system's names do. Lines count from 1, rows
    of Parquet too. Raises ValueError, naming the line, for a file that is not what its ending says.
    """
    readers: dict[str, Callable[[Path, Collection[str]], Iterator[Block]]] = {
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".jsonl": _read_json_lines,
        ".ndjson": _read_json_lines,
        ".parquet": _read_parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None or path.is_dir():
        raise ValueError(f"{path} is not a manifest: it must be a file that ends in one of {', '.join(readers)}.")
    return reader(path, wanted)


def _read_csv(path: Path, wanted: Collection[str]) -> Iterator[Block]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = [name.strip() for name in next(lines, [])]
            if len(set(header)) < len(header):
                raise ValueError(f"{path}: two columns have one name: {', '.join(header)}.")
            rows, numbers, full = [], [], False
            for row in lines:
                if not row:
                    continue
                if len(row) != len(header):
                    raise ValueError(
                        f"{path}, line {lines.line_num}: {len(row)} values, the header names {len(header)} columns. "
                        'Write a value that holds a comma as "a, b".'
                    )
                rows.append(row)
                numbers.append(lines.line_num)
                full = len(rows) == _BLOCK_ROWS
                if full:
                    yield _csv_block(header, wanted, rows, numbers)
                    rows, numbers = [], []
        except csv.Error as error:
            raise ValueError(f"{path}, line {lines.line_num}: not readable as CSV: {error}.") from error
        if rows or not full:
            yield _csv_block(header, wanted, rows, numbers)


def _csv_block(header: list[str], wanted: Collection[str], rows: list[list[str]], numbers: list[int]) -> Block:
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    return Block(
        header, {name: column for name, column in zip(header, columns, strict=True) if name in wanted}, numbers
    )


def _read_json_lines(path: Path, wanted: Collection[str]) -> Iterator[Block]:
    rows, numbers, full = [], [], False
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}: not readable as JSON: {error}.") from None
            if not isinstance(row, dict):
                raise ValueError(
                    f"{path}, line {number}: each line must be an object such as "
                    '{"path": "a.jpg", "pid": 7}, found a ' + f"{type(row).__name__}."
                )
            rows.append(row)
            numbers.append(number)
            full = len(rows) == _BLOCK_ROWS
            if full:
                yield _json_block(wanted, rows, numbers)
                rows, numbers = [], []
    if rows or not full:
        yield _json_block(wanted, rows, numbers)


def _json_block(wanted: Collection[str], rows: list[dict[str, Any]], numbers: list[int]) -> Block:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return Block(names, {name: [row.get(name) for row in rows] for name in names if name in wanted}, numbers)


def _read_parquet(path: Path, wanted: Collection[str]) -> Iterator[Block]:
    import pyarrow.parquet  # here: no other run, and no worker process, has to load 50 MB for it

    try:
        # Not memory-mapped, and its pages not read ahead: that would keep whole columns of text in memory.
        with pyarrow.parquet.ParquetFile(os.fspath(path), buffer_size=1 << 20, pre_buffer=False) as file:
            names, first = file.schema_arrow.names, 1
            columns = [name for name in names if name in wanted]
            for batch in file.iter_batches(batch_size=_BLOCK_ROWS, columns=columns, use_threads=False):
                values = {name: batch.column(name).to_pylist() for name in columns}
                yield Block(names, values, range(first, first + len(batch)), "row")
                first += len(batch)
            if first == 1:
                yield Block(names, {name: [] for name in columns}, [], "row")
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not readable as Parquet: {error}") from error
