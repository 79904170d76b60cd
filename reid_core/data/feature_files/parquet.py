"""Feature files as Parquet: the features are a column of lists of one length."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from reid_core.data.feature_files.table import (
    COLUMNS,
    FEATURE,
    METADATA_KEY,
    REAL,
    TEXT,
    WHOLE,
    Column,
    FeatureTable,
    as_column,
    canonical_names,
    check_types,
)
from reid_core.data.feature_files.text import metadata_from, metadata_text

_ARROW_TYPES = {TEXT: pa.string(), WHOLE: pa.int64(), REAL: pa.float64()}


class ParquetFeatures(FeatureTable):
    """A Parquet file; raises ValueError for one that cannot be read or holds other types."""

    def __init__(self, path: Path):
        self.path, self.source = path, str(path)
        try:
            with parquet.ParquetFile(self.source) as file:
                schema, self.count = file.schema_arrow, file.metadata.num_rows
                self.found = schema.names
                self._own = canonical_names(self.found, self.source)
                self.types = {name: self._type(name, schema.field(own).type) for name, own in self._own.items()}
                check_types(self, self.source)
                self.width, self.dtype = self._shape(file, schema)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{self.source} is not readable as Parquet: {error}") from error
        self.metadata = metadata_from((schema.metadata or {}).get(METADATA_KEY.encode()), self.source)

    def blocks(self, names: Collection[str]) -> Iterator[dict[str, Column]]:
        own = [self._own[name] for name in names]
        try:
            with parquet.ParquetFile(self.source, pre_buffer=False) as file:
                for batch in file.iter_batches(batch_size=self.block_rows, columns=own, use_threads=False):
                    if len(batch):
                        yield {name: self._column(name, batch.column(self._own[name])) for name in names}
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{self.source} is not readable as Parquet: {error}") from error

    def _type(self, name: str, kind: pa.DataType) -> str:
        if name == FEATURE:
            if _is_list(kind) and pa.types.is_floating(kind.value_type):
                return REAL
        elif pa.types.is_integer(kind):
            return WHOLE if WHOLE in COLUMNS[name] else REAL
        elif pa.types.is_floating(kind):
            return REAL if REAL in COLUMNS[name] else WHOLE
        elif any(is_text(_value_type(kind)) for is_text in (pa.types.is_string, pa.types.is_large_string)):
            return TEXT
        expected = "lists of floating-point numbers" if name == FEATURE else " or ".join(COLUMNS[name])
        raise ValueError(f"{self.source}: the column '{self._own[name]}' must hold {expected}, found {kind}.")

    def _shape(self, file: parquet.ParquetFile, schema: pa.Schema) -> tuple[int, np.dtype]:
        """Width and type of the features; of lists without a fixed size by the first row."""
        if FEATURE not in self._own:
            return 0, np.dtype(np.float32)
        kind = schema.field(self._own[FEATURE]).type
        dtype = np.dtype(np.float16 if kind.value_type == pa.float16() else np.float32)
        if pa.types.is_fixed_size_list(kind):
            return kind.list_size, dtype
        batch = next(file.iter_batches(batch_size=1, columns=[self._own[FEATURE]]), None)
        first = batch.column(0)[0] if batch is not None and len(batch) else None
        return (len(first) if first is not None and first.is_valid else 0), dtype

    def _column(self, name: str, values: pa.Array) -> Column:
        if name == FEATURE:
            return self._features(values)
        if self.types[name] == TEXT:
            return as_column(name, TEXT, values.to_pylist(), self.source)
        if self.types[name] == WHOLE and pa.types.is_integer(values.type):
            return as_column(name, WHOLE, values.fill_null(-1).to_numpy(zero_copy_only=False), self.source)
        return as_column(name, self.types[name], values.to_numpy(zero_copy_only=False), self.source)

    def _features(self, values: pa.Array) -> np.ndarray:
        flat = values.flatten()
        lengths = np.full(len(values), self.width)
        if not pa.types.is_fixed_size_list(values.type):
            lengths = values.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        wrong = lengths[lengths != self.width]
        if len(wrong) or values.null_count or flat.null_count:
            problem = f"one has {wrong[0]}" if len(wrong) else "some are missing"
            raise ValueError(f"{self.source}: every feature must have {self.width} numbers, as the first; {problem}.")
        return flat.to_numpy(zero_copy_only=False).reshape(len(values), self.width).astype(self.dtype, copy=False)


def write_parquet(file: BinaryIO, table: FeatureTable) -> None:
    """One row group for each block."""
    value = pa.from_numpy_dtype(table.dtype)
    types = {name: _ARROW_TYPES[table.types[name]] for name in table.types if name != FEATURE}
    types[FEATURE] = pa.list_(value, table.width)
    schema = pa.schema(list(types.items()), metadata={METADATA_KEY: metadata_text(table.metadata)})
    texts = [name for name, kind in table.types.items() if kind == TEXT]
    with parquet.ParquetWriter(file, schema, use_dictionary=texts) as writer:
        for block in table.blocks(list(types)):
            columns = [_arrow(name, block[name], types[name], value) for name in types]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def _arrow(name: str, values: Column, kind: pa.DataType, value: pa.DataType) -> pa.Array:
    if name != FEATURE:
        return pa.array(values, type=kind)
    flat: Any = pa.array(np.ascontiguousarray(values).ravel(), type=value)
    return pa.FixedSizeListArray.from_arrays(flat, kind.list_size)


def _is_list(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_fixed_size_list, pa.types.is_list, pa.types.is_large_list))


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
