import io
import os
import pickle
import zipfile

import pytest
import torch
from torch import nn

from reid_core.modeling.clip.torchscript import is_torchscript_archive, read_torchscript_tensors


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.sizes = [1, 2, 3]  # saved through one of the typed list builders
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.linear(x) * self.scale * self.sizes[0]


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Inner(), nn.Identity())
        self.table = nn.Parameter(torch.randn(4, 3).half())
        self.register_buffer("input_resolution", torch.tensor(224))
        self.register_buffer("transposed", torch.randn(2, 5).T)
        self.register_buffer("empty", torch.zeros(0, 3))

    def forward(self, x):
        return self.blocks(x)


@pytest.mark.parametrize("how", ["script", "trace"])
def test_tensors_are_those_that_torch_reads(tmp_path, how):
    module = Outer()
    scripted = torch.jit.script(module) if how == "script" else torch.jit.trace(module, torch.randn(1, 3))
    scripted.save(tmp_path / "model.pt")
    tensors = read_torchscript_tensors(tmp_path / "model.pt")
    expected = torch.jit.load(tmp_path / "model.pt").state_dict()
    assert expected.keys() <= tensors.keys()
    for name, value in expected.items():
        assert tensors[name].dtype == value.dtype
        assert torch.equal(tensors[name], value), name


def test_kinds_of_files_are_told_apart(tmp_path):
    torch.jit.script(Inner()).save(tmp_path / "archive.pt")
    torch.save({"a": torch.zeros(1)}, tmp_path / "state.pt")
    (tmp_path / "text").write_text("no zip")
    assert is_torchscript_archive(tmp_path / "archive.pt")
    assert not is_torchscript_archive(tmp_path / "state.pt")
    assert not is_torchscript_archive(tmp_path / "text")


def write_archive(path, data: bytes, storages: dict[str, bytes] | None = None) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", data)
        archive.writestr("model/constants.pkl", b"")
        for key, content in (storages or {}).items():
            archive.writestr(f"model/data/{key}", content)


class Call:
    """Pickles as a call of `function(*arguments)`."""

    def __init__(self, function, *arguments) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("function", [os.system, eval, exec, getattr, __import__, torch.load, torch.hub.load])
def test_an_archive_that_calls_something_is_refused(tmp_path, function):
    victim = tmp_path / "written"
    write_archive(tmp_path / "model.pt", pickle.dumps({"x": Call(function, f"touch {victim}")}, protocol=2))
    with pytest.raises(ValueError, match=r"model\.pt is refused .*asks for '"):
        read_torchscript_tensors(tmp_path / "model.pt")
    assert not victim.exists()


def test_the_hostile_archive_would_act_if_it_were_unpickled(tmp_path):
    """The test above can fail: the same bytes do run under plain pickle."""
    victim = tmp_path / "written"
    pickle.loads(pickle.dumps(Call(os.system, f"touch {victim}"), protocol=2))
    assert victim.exists()


def test_dotted_names_do_not_reach_through_allowed_ones(tmp_path):
    """Protocol 4 may ask for `OrderedDict.__init__.__globals__`; only whole names of the list are answered."""
    data = b"\x80\x04\x8c\x0bcollections\x8c\x1fOrderedDict.__init__.__globals__\x93."
    data = data.replace(b"\x8c\x1f", bytes([0x8C, len("OrderedDict.__init__.__globals__")]))
    write_archive(tmp_path / "model.pt", data)
    with pytest.raises(ValueError, match="asks for 'collections.OrderedDict.__init__"):
        read_torchscript_tensors(tmp_path / "model.pt")


def tensor_pickle(size: tuple, stride: tuple, count: int, offset: int = 0) -> bytes:
    """A module with one float tensor `w` over storage 0, in the opcodes that torch writes."""

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", torch.FloatStorage, "0", "cpu", count) if isinstance(value, Storage) else None

    buffer = io.BytesIO()
    rebuild = Call(torch._utils._rebuild_tensor_v2, Storage(), offset, size, stride, False, {})
    Pickler(buffer, protocol=2).dump(rebuild)
    return b"\x80\x02c__torch__\nNet\n)\x81}U\x01w" + buffer.getvalue()[2:-1] + b"sb."


def test_hand_made_archive_is_read(tmp_path):
    write_archive(tmp_path / "m.pt", tensor_pickle((2, 2), (2, 1), 4), {"0": torch.arange(4.0).numpy().tobytes()})
    assert torch.equal(read_torchscript_tensors(tmp_path / "m.pt")["w"], torch.arange(4.0).view(2, 2))


@pytest.mark.parametrize(
    ("data", "storages"),
    [
        (tensor_pickle((2, 3), (3, 1), 4), {"0": bytes(16)}),  # reaches behind the storage
        (tensor_pickle((2, 2), (2, 1), 4, offset=-1), {"0": bytes(16)}),
        (tensor_pickle((2, 2), (2, 1), 4), {"0": bytes(12)}),  # cut off
        (tensor_pickle((2, 2), (2, 1), 4), {}),
        (b"", {}),
        (b"not a pickle", {}),
        (tensor_pickle((2, 2), (2, 1), 4)[:-20], {"0": bytes(16)}),
    ],
)
def test_damaged_archives_are_named(tmp_path, data, storages):
    write_archive(tmp_path / "m.pt", data, storages)
    with pytest.raises(ValueError, match=r"m\.pt is (refused|a damaged)"):
        read_torchscript_tensors(tmp_path / "m.pt")
