"""Tensors of a TorchScript archive, read without running anything that the archive contains.

OpenAI publishes CLIP as TorchScript archives: zip files with the tensors' bytes (`data/0`, `data/1` ...), compiled
code (`code/`) and a pickle of the module tree (`data.pkl`). `torch.jit.load` compiles and may run the code;
`torch.load(weights_only=True)` refuses such files. Here the code is never opened, and the pickle is read by an
unpickler for which every name is looked up in a fixed list: the handful of functions that rebuild tensors are replaced
by ours, which return views of bytes read from the same zip; classes of the archive's own code (`__torch__...`) become
empty holders of attributes; any other name ends the reading with an error before anything of that name is imported.
A pickle can do nothing but call what the unpickler hands out, so a hostile file can at most give wrong numbers or
an error.
"""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_STORAGE_TYPES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "BoolStorage": torch.bool,
}


class _StorageType:
    """Stands for `torch.HalfStorage` and the like in a pickle."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


class _Module:
    """Stands for any class of the archive's code: its attributes and nothing else."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("a module's state is not a dictionary")
        self.__dict__.update(state)


def _rebuild_tensor(
    storage: Tensor, offset: int, size: tuple, stride: tuple, requires_grad: bool = False, *_hooks: Any
) -> Tensor:
    return storage.as_strided(size, stride, offset)  # refuses what lies outside of the storage


def _rebuild_parameter(data: Tensor, *_ignored: Any) -> Tensor:
    return data


def _plain_list(values: Any) -> Any:
    return values


_ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{
        ("torch.jit._pickle", name): _plain_list
        for name in ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist")
    },
    ("torch.jit._pickle", "restore_type_tag"): lambda value, _type: value,
    **{("torch", name): _StorageType(dtype) for name, dtype in _STORAGE_TYPES.items()},
}


class _ArchiveUnpickler(pickle.Unpickler):
    """Hands out the names of `_ALLOWED`, empty holders for `__torch__` classes, and tensors from the zip."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(archive.open(f"{root}/data.pkl"))
        self._archive, self._root = archive, root
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for '{module}.{name}', which a file of weights has no use for")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Tensor:
        kind, storage_type, key, _device, count = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise pickle.UnpicklingError(f"it refers to a '{kind}' instead of a tensor's storage")
        if key not in self._storages:
            content = bytearray(self._archive.read(f"{self._root}/data/{key}"))
            dtype = storage_type.dtype
            if len(content) != count * dtype.itemsize:
                raise pickle.UnpicklingError(f"storage {key} has {len(content)} bytes instead of {count} x {dtype}")
            self._storages[key] = torch.frombuffer(content, dtype=dtype) if count else torch.empty(0, dtype=dtype)
        return self._storages[key]


def is_torchscript_archive(path: Path) -> bool:
    """True for a zip file with compiled code, as `torch.jit.save` writes it (`torch.save` writes none)."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return _root(archive) is not None


def read_torchscript_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of the archive's module tree by their dotted names, with the dtypes of the file, on the CPU.

    Raises ValueError, naming the file, for an archive that asks for anything but tensors or is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        try:
            module = _ArchiveUnpickler(archive, _root(archive)).load()
        except pickle.UnpicklingError as error:
            raise ValueError(f"{path} is refused as a TorchScript archive: {error}.") from error
        except Exception as error:  # a damaged pickle can end in an error of any type
            raise ValueError(f"{path} is a damaged TorchScript archive: {type(error).__name__}: {error}.") from error
    return dict(_named_tensors(module, ""))


def _root(archive: zipfile.ZipFile) -> str | None:
    """The folder in the zip that holds `data.pkl` beside `constants.pkl`."""
    names = set(archive.namelist())
    roots = [name.removesuffix("/constants.pkl") for name in names if name.endswith("/constants.pkl")]
    return next((root for root in sorted(roots) if f"{root}/data.pkl" in names), None)


def _named_tensors(node: Any, prefix: str) -> list[tuple[str, Tensor]]:
    if isinstance(node, Tensor):
        return [(prefix.removesuffix("."), node)]
    if not isinstance(node, _Module):
        return []
    return [pair for name, value in vars(node).items() for pair in _named_tensors(value, f"{prefix}{name}.")]
