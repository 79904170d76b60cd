"""Feature files as NPZ: one array a column. Nothing is unpickled, and no array is larger than its file says."""

import contextlib
import math
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from numpy.lib import format as npy

from reid_core.data.feature_files.table import (
    FEATURE,
    METADATA_KEY,
    REAL,
    WHOLE,
    Column,
    FeatureTable,
    array_name,
    as_column,
    canonical_names,
    check_types,
    type_of_kind,
)
from reid_core.data.feature_files.text import metadata_from, metadata_text

_LONGEST = 2**14  # bytes of one text
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_DTYPES = {WHOLE: "<i8", REAL: "<f8"}


class NpzFeatures(FeatureTable):
    """An NPZ file; raises ValueError for one that cannot be read or holds other types or shapes."""

    def __init__(self, path: Path):
        self.path, self.source = path, str(path)
        with self._archive() as archive:
            self.found = [name.removesuffix(".npy") for name in archive.namelist() if name != f"{METADATA_KEY}.npy"]
            self._own = canonical_names(self.found, self.source)
            self._dtypes: dict[str, np.dtype] = {}
            shapes = {name: self._describe(archive, name) for name in self._own}
            self.types = {name: type_of_kind(name, self._dtypes[name].kind) for name in self._own}
            self.metadata = self._read_metadata(archive)
        check_types(self, self.source)
        self.count, self.width = shapes.get(FEATURE, (0, 0))
        self.dtype = np.dtype(np.float16 if self._dtypes.get(FEATURE) == np.float16 else np.float32)
        for name, shape in shapes.items():
            if shape[0] != self.count and FEATURE in shapes:
                raise ValueError(
                    f"{self.source}: the column '{self._own[name]}' has {shape[0]} values, there are {self.count} "
                    "features: one for each."
                )

    def blocks(self, names: Collection[str]) -> Iterator[dict[str, Column]]:
        with self._archive() as archive, contextlib.ExitStack() as members:
            streams = {name: members.enter_context(archive.open(f"{self._own[name]}.npy")) for name in names}
            for name, stream in streams.items():
                self._header(stream, name)
            for first in range(0, self.count, self.block_rows):
                rows = min(self.block_rows, self.count - first)
                yield {name: self._column(name, stream, rows) for name, stream in streams.items()}

    @contextlib.contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError) as error:
            raise ValueError(f"{self.source} is not readable as NPZ: {error}") from error

    def _describe(self, archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
        """The shape of a column, whose type, number of axes and size are checked."""
        own = self._own[name]
        with archive.open(f"{own}.npy") as stream:
            shape, fortran, dtype = self._header(stream, name)
            held = archive.getinfo(f"{own}.npy").file_size - stream.tell()
        axes = 2 if name == FEATURE else 1
        if len(shape) != axes or (fortran and axes == 2 and min(shape) > 1):
            layout = "a matrix [images, width] in C order" if name == FEATURE else "one value an image"
            order = " in Fortran order (save np.ascontiguousarray of it)" if fortran else ""
            raise ValueError(f"{self.source}: the column '{own}' must be {layout}, found shape {list(shape)}{order}.")
        if type_of_kind(name, dtype.kind) is None or (dtype.kind in "US" and dtype.itemsize > _LONGEST):
            raise ValueError(
                f"{self.source}: the column '{own}' has the type {dtype}, which is not read: plain numbers, and texts "
                f"of up to {_LONGEST} bytes, are. (Text saved as objects: convert it by array.astype(str).)"
            )
        if held != math.prod(shape) * dtype.itemsize:
            raise ValueError(
                f"{self.source}: the column '{own}' should take {math.prod(shape) * dtype.itemsize} bytes by its shape "
                f"{list(shape)}, but has {held}: the file is damaged."
            )
        self._dtypes[name] = dtype
        return shape

    def _header(self, stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
        try:
            version = npy.read_magic(stream)
            if version not in _HEADERS:
                raise ValueError(f"version {version} of the format")
            return _HEADERS[version](stream)
        except ValueError as error:
            raise ValueError(
                f"{self.source}: the column '{name}' is no NumPy array that can be read: {error}"
            ) from None

    def _column(self, name: str, stream: IO[bytes], rows: int) -> Column:
        dtype = self._dtypes[name]
        wanted = rows * dtype.itemsize * (self.width if name == FEATURE else 1)
        content = stream.read(wanted)
        if len(content) != wanted:
            raise EOFError(f"the column '{name}' ends too early")
        values = np.frombuffer(content, dtype=dtype)
        if name == FEATURE:
            return values.reshape(rows, self.width).astype(self.dtype, copy=False)
        if dtype.kind == "S":
            return [value.decode("utf-8", "backslashreplace") for value in values.tolist()]
        return as_column(name, self.types[name], values.tolist() if dtype.kind == "U" else values, self.source)

    def _read_metadata(self, archive: zipfile.ZipFile) -> dict:
        if f"{METADATA_KEY}.npy" not in archive.namelist():
            return {}
        with archive.open(f"{METADATA_KEY}.npy") as stream:
            shape, _, dtype = self._header(stream, METADATA_KEY)
            if shape != () or dtype.kind != "U" or dtype.itemsize > 64 * _LONGEST:
                raise ValueError(f"{self.source}: its metadata must be one text, found {dtype} {list(shape)}.")
            return metadata_from(str(np.frombuffer(stream.read(dtype.itemsize), dtype=dtype)[0]), self.source)


def write_npz(file: BinaryIO, table: FeatureTable) -> None:
    """Text is compressed, since arrays pad it to one length."""
    dtypes = {name: np.dtype(_DTYPES.get(kind) or f"<U{_longest(table, name)}") for name, kind in table.types.items()}
    dtypes[FEATURE] = table.dtype.newbyteorder("<")
    metadata = np.array(metadata_text(table.metadata))
    with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
        with _member(archive, METADATA_KEY, metadata.dtype, ()) as member:
            member.write(metadata.tobytes())
        for name, dtype in dtypes.items():
            shape = (table.count, table.width) if name == FEATURE else (table.count,)
            with _member(archive, array_name(name), dtype, shape) as member:
                for block in table.blocks([name]):
                    member.write(np.ascontiguousarray(block[name], dtype=dtype).tobytes())


def _longest(table: FeatureTable, name: str) -> int:
    return max((len(text) for block in table.blocks([name]) for text in block[name]), default=1) or 1


@contextlib.contextmanager
def _member(archive: zipfile.ZipFile, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> Iterator[IO[bytes]]:
    entry = zipfile.ZipInfo(f"{name}.npy")  # of 1980: the same bytes whenever it is written
    entry.compress_type = zipfile.ZIP_DEFLATED if dtype.kind == "U" else zipfile.ZIP_STORED
    with archive.open(entry, "w", force_zip64=True) as member:
        header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(member, header)
        yield member
