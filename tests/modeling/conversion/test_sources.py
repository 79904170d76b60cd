"""Files of other programs: what is read, what is refused, and that a refusal runs nothing."""

import os
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from reid_core.modeling.conversion import ConversionError, read_source

STATE = {"image_encoder.a": torch.arange(6.0).reshape(2, 3), "classifier.weight": torch.ones(2, dtype=torch.float16)}


class MakesAFolder:
    """What a hostile file does: something, as it is read."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def _assert_state(tensors):
    assert list(tensors) == list(STATE)
    for name, value in STATE.items():
        assert tensors[name].dtype == value.dtype and torch.equal(tensors[name], value)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("nested", ["", "state_dict", "model"])
@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_in_their_forms(tmp_path, prefix, nested, zipped):
    state = OrderedDict((prefix + name, value) for name, value in STATE.items())
    content = {nested: state, "epoch": 60, "optimizer": {"lr": 0.1}} if nested else state
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    source = read_source(tmp_path / "a.pth")
    _assert_state(source.tensors)
    assert source.prefix == prefix
    assert source.others == ({"epoch": "int 60", "optimizer": "a dictionary with lr"} if nested else {})


def test_what_is_no_tensor_in_a_state_dict_is_told(tmp_path):
    torch.save({**STATE, "note": "best"}, tmp_path / "a.pth")
    assert read_source(tmp_path / "a.pth").others == {"note": "str 'best'"}


def test_a_prefix_of_some_names_only_is_a_part_of_them(tmp_path):
    torch.save({**STATE, "module.x": torch.ones(1)}, tmp_path / "a.pth")
    assert list(read_source(tmp_path / "a.pth").tensors) == [*STATE, "module.x"]


def test_safetensors(tmp_path):
    save_file(STATE, tmp_path / "a.safetensors")
    assert read_source(tmp_path / "a.safetensors").tensors.keys() == STATE.keys()
    (tmp_path / "b.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ConversionError, match=r"b\.safetensors is not a readable safetensors file"):
        read_source(tmp_path / "b.safetensors")


def test_a_torchscript_archive_gives_its_tensors(tmp_path):
    module = nn.Linear(3, 2)
    torch.jit.save(torch.jit.script(module), tmp_path / "a.pt")
    tensors = read_source(tmp_path / "a.pt").tensors
    assert tensors.keys() == {"weight", "bias"}
    assert torch.equal(tensors["weight"], module.weight)


def test_code_is_refused_and_not_run(tmp_path):
    torch.save({**STATE, "evil": MakesAFolder(tmp_path / "made")}, tmp_path / "a.pth")
    with pytest.raises(ConversionError, match=r"refused: reading it could run code .* asks for \S*mkdir.*--unsafe"):
        read_source(tmp_path / "a.pth")
    assert not (tmp_path / "made").exists()


def test_unsafe_reads_it_and_runs_it(tmp_path):
    torch.save({"model": STATE, "evil": MakesAFolder(tmp_path / "made")}, tmp_path / "a.pth")
    source = read_source(tmp_path / "a.pth", unsafe=True)
    _assert_state(source.tensors)
    assert (tmp_path / "made").exists()
    assert "evil" in source.others


def test_unsafe_reads_a_whole_module(tmp_path):
    module = nn.Linear(3, 2)
    torch.save(module, tmp_path / "a.pth")
    assert torch.equal(read_source(tmp_path / "a.pth", unsafe=True).tensors["bias"], module.bias)


@pytest.mark.parametrize("unsafe", [False, True])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_damaged_files(tmp_path, unsafe, zipped, share):
    torch.save({"w": torch.ones(1000)}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    whole = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ConversionError, match=r"a\.pth .*damaged"):
        read_source(tmp_path / "a.pth", unsafe)


@pytest.mark.parametrize("content", [b"hello world\n" * 9, bytes(range(256)) * 3, b"<!DOCTYPE html><html>"])
@pytest.mark.parametrize("unsafe", [False, True])
def test_files_of_another_kind(tmp_path, content, unsafe):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ConversionError, match=r"a\.pth.*damaged"):
        read_source(tmp_path / "a.pth", unsafe)


@pytest.mark.parametrize("content", [{}, [torch.ones(2)], {"state_dict": {}}, torch.ones(2)])
def test_files_without_named_tensors(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ConversionError, match="holds no state dict"):
        read_source(tmp_path / "a.pth")


def test_a_missing_file_names_its_neighbours(tmp_path):
    torch.save(STATE, tmp_path / "b.pth")
    with pytest.raises(FileNotFoundError, match=r"no weights file .*a\.pth\. In its folder: b\.pth"):
        read_source(tmp_path / "a.pth")
