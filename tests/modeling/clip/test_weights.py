import logging
import os
import pickle
import socket
import urllib.error

import pytest
import torch
from safetensors.torch import save_file

import reid_core.modeling.clip.weights as weights_module
from reid_core.modeling.clip import load_clip_weights, parameter_shapes
from reid_core.utils.logging import LOGGER_NAME

import open_clip  # isort: skip  # the package above makes torchvision importable first


@pytest.fixture
def state(small_vit):
    """A whole CLIP's random state dict under OpenAI's names."""
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in parameter_shapes(small_vit).items()}


def with_text_prefix(state):
    names = ("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection")
    return {f"text.{name}" if name.startswith(names) else name: value for name, value in state.items()}


def assert_same(found, expected) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)


LAYOUTS = {
    "plain": lambda state: state,
    "under state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "under model": lambda state: {"model": state},
    "of DataParallel": lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
    "with text.": with_text_prefix,
    "with counts": lambda state: {**state, "input_resolution": torch.tensor(64), "text.attn_mask": torch.zeros(2, 2)},
}


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_layouts_of_saved_state_dicts(tmp_path, small_vit, state, layout):
    torch.save(LAYOUTS[layout](state), tmp_path / "weights.pth")
    assert_same(load_clip_weights(str(tmp_path / "weights.pth"), small_vit), state)


@pytest.mark.parametrize("prefix", ["visual.", ""])
def test_image_tower_alone_in_half_precision(tmp_path, small_vit, state, prefix):
    visual = {name: value for name, value in state.items() if name.startswith("visual.")}
    renamed = {f"{prefix}{name.removeprefix('visual.')}": value.half() for name, value in visual.items()}
    save_file(renamed, tmp_path / "visual.safetensors")
    found = load_clip_weights(str(tmp_path / "visual.safetensors"), small_vit)
    assert_same(found, {name: value.half().float() for name, value in visual.items()})


def test_openai_style_archive(tmp_path, small_vit, caplog):
    config = weights_module.read_architecture(small_vit)
    model = open_clip.CLIP(**config).eval()
    for name, value in (("input_resolution", 64), ("context_length", 77), ("vocab_size", 49408)):
        vars(model).pop(name, None)
        model.register_buffer(name, torch.tensor(value))
    traced = torch.jit.trace_module(model, {"encode_image": torch.randn(1, 3, 64, 64)}, check_trace=False)
    traced.half().save(tmp_path / "clip.pt")
    found = load_clip_weights(str(tmp_path / "clip.pt"), small_vit)
    assert_same(found, {name: value.half().float() for name, value in model.state_dict().items() if name in found})
    assert found.keys() == parameter_shapes(small_vit).keys()


def test_archive_of_openai_needs_quick_gelu(tmp_path, small_vit, state, caplog, monkeypatch):
    logging.getLogger(LOGGER_NAME).propagate = True
    monkeypatch.setattr(weights_module, "is_torchscript_archive", lambda path: True)
    monkeypatch.setattr(weights_module, "read_torchscript_tensors", lambda path: state)
    plain_gelu = {**weights_module.read_architecture(small_vit), "quick_gelu": False}
    (tmp_path / "clip.pt").touch()
    load_clip_weights(str(tmp_path / "clip.pt"), small_vit)
    assert not caplog.records
    monkeypatch.setattr(weights_module, "read_architecture", lambda architecture: plain_gelu)
    load_clip_weights(str(tmp_path / "clip.pt"), small_vit)
    assert "QuickGELU" in caplog.text


def changed(state, **changes):
    state = {**state, **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: value for name, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"visual__proj": None}, "visual.proj is missing"),
        ({"ln_final__weight": None}, "ln_final.weight is missing"),
        ({"visual__proj": torch.zeros(3, 2)}, r"visual.proj has shape \[3, 2\] instead of \[64, 32\]"),
        ({"visual__transformer__resblocks__2__ln_1__bias": torch.zeros(64)}, "resblocks.2.ln_1.bias is not part of it"),
    ],
)
def test_other_architectures_are_refused(tmp_path, small_vit, state, changes, message):
    torch.save(changed(state, **changes), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=f"weights.pt does not fit the architecture .*{message}"):
        load_clip_weights(str(tmp_path / "weights.pt"), small_vit)


def test_many_mismatches_are_counted(tmp_path, small_vit, small_resnet, state):
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"and \d+ more"):
        load_clip_weights(str(tmp_path / "weights.pt"), small_resnet)


def test_other_position_grids_pass(tmp_path, small_vit, state):
    state["visual.positional_embedding"] = torch.randn(10, 64)
    torch.save(state, tmp_path / "weights.pt")
    assert len(load_clip_weights(str(tmp_path / "weights.pt"), small_vit)["visual.positional_embedding"]) == 10


class Hostile:
    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_pickles_that_call_something_are_refused(tmp_path, small_vit, save):
    save({"visual.proj": Hostile(tmp_path / "written")}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"weights\.pt is refused"):
        load_clip_weights(str(tmp_path / "weights.pt"), small_vit)
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"random bytes " * 20])
def test_damaged_files_are_named(tmp_path, small_vit, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is (refused|not a readable)"):
        load_clip_weights(str(tmp_path / name), small_vit)


@pytest.mark.parametrize(
    ("content", "found"),
    [([1, 2], "a list"), ({"epoch": 3}, "a dictionary with epoch"), ({}, "a dictionary with no entries")],
)
def test_files_without_weights_are_named(tmp_path, small_vit, content, found):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=f"holds no state dict.*found {found}"):
        load_clip_weights(str(tmp_path / "weights.pt"), small_vit)


def test_missing_file_and_unknown_tags(small_vit):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt does not exist.*MODEL\.BACKBONE\.PRETRAINED"):
        load_clip_weights("nowhere.pt", small_vit)
    with pytest.raises(ValueError, match="it has no tags; give a file"):
        load_clip_weights("openai", small_vit)
    with pytest.raises(ValueError, match=r"'opnai' .* open_clip tag of 'ViT-B-16-quickgelu'\. Did you mean 'openai'\?"):
        load_clip_weights("opnai", "ViT-B-16-quickgelu")


def no_name_server(config, prefer_hf_hub=True):
    assert not prefer_hf_hub, "the hub's client retries for a minute"
    raise urllib.error.URLError(socket.gaierror(-2, "name not known"))


def test_a_tag_without_network_says_what_to_fetch(monkeypatch):
    monkeypatch.setattr(weights_module, "download_pretrained", no_name_server)
    monkeypatch.setattr(weights_module.huggingface_hub, "try_to_load_from_cache", lambda repository, name: None)
    with pytest.raises(FileNotFoundError) as error:
        load_clip_weights("openai", "ViT-B-16-quickgelu")
    for part in ("name not known", "ViT-B-16.pt", "huggingface.co/timm/", "MODEL.BACKBONE.PRETRAINED"):
        assert part in str(error.value)


def only_plain_address(config, prefer_hf_hub=True):
    if prefer_hf_hub:
        raise OSError("the hub is down")
    return only_plain_address.file


def only_hub(config, prefer_hf_hub=True):
    if not prefer_hf_hub:
        raise urllib.error.URLError("connection refused")
    return only_hub.file


@pytest.mark.parametrize("download", [only_plain_address, only_hub, no_name_server])
def test_a_tag_is_found_where_it_can_be(tmp_path, monkeypatch, state, small_vit, download):
    """At its plain address, on the hub, or without network in the hub's cache."""
    torch.save(state, tmp_path / "weights.pt")
    download.file = str(tmp_path / "weights.pt")
    monkeypatch.setattr(weights_module, "download_pretrained", download)
    monkeypatch.setattr(
        weights_module.huggingface_hub,
        "try_to_load_from_cache",
        lambda repository, name: str(tmp_path / "weights.pt") if name.endswith(".bin") else None,
    )
    monkeypatch.setattr(weights_module, "parameter_shapes", lambda architecture: parameter_shapes(small_vit))
    assert_same(load_clip_weights("openai", "ViT-B-16-quickgelu"), state)
