import json

import pytest
import torch

from reid_core.modeling.clip import build_image_tower, parameter_shapes, read_architecture
from tests.paths import ROOT

VALID = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 10, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def write(tmp_path):
    def write_json(content) -> str:
        path = tmp_path / "model.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write_json


def test_names_and_files_are_read(write):
    assert read_architecture("ViT-B-16-quickgelu")["quick_gelu"] is True
    assert read_architecture(write(VALID)) == VALID


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "clip").glob("*.json")), ids=lambda path: path.stem)
def test_shipped_files_build_a_tower(path):
    tower = build_image_tower(str(path))
    shapes = parameter_shapes(str(path))
    assert {f"visual.{name}": value.shape for name, value in tower.state_dict().items()}.items() <= shapes.items()
    assert any(name.startswith("transformer.") for name in shapes)


@pytest.mark.parametrize("architecture", ["ViT-B-32", "ViT-B-16", "ViT-L-14", "RN50", "ViT-H-14"])
def test_known_names_build_without_memory(architecture):
    with torch.device("meta"):
        tower = build_image_tower(architecture)
    assert all(value.is_meta for value in tower.parameters())
    assert parameter_shapes(architecture)["visual.conv1.weight"] == tower.conv1.weight.shape


def test_unknown_name_lists_the_nearest():
    with pytest.raises(ValueError, match=r"no architecture 'ViT-B16-quickgelu'.*ViT-B-16-quickgelu"):
        read_architecture("ViT-B16-quickgelu")
    with pytest.raises(ValueError, match="no architecture"):
        read_architecture("hf-hub:somebody/something")  # would be a download


def test_missing_file():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json does not exist"):
        read_architecture("nowhere.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold an object"),
        ({"embed_dim": 16, "vision_cfg": {}}, "lacks text_cfg"),
        ({**VALID, "vision_cfg": 7}, "'vision_cfg' .* must be an object, got 7"),
        ({**VALID, "vision_cfg": {"patchsize": 16}}, "Unknown key 'patchsize' of vision_cfg .* mean 'patch_size'"),
        ({**VALID, "text_cfg": {"zzz": 16}}, "Unknown key 'zzz' of text_cfg .* Known: context_length"),
    ],
)
def test_bad_files_are_refused(write, content, message):
    with pytest.raises(ValueError, match=message):
        read_architecture(write(content))


def test_towers_of_other_libraries_are_refused():
    with pytest.raises(ValueError, match=r"timm's 'vit_base_patch16_siglip_224'.*ViT-B-16-quickgelu"):
        build_image_tower("ViT-B-16-SigLIP")


def test_hugging_face_text_towers_are_left_out():
    assert all(name.startswith("visual.") for name in parameter_shapes("roberta-ViT-B-32"))
