"""Converting whole files: what is written, what is refused before anything is written, and that the result is used."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file

from reid_core.config import ConfigError
from reid_core.engine.launch import main
from reid_core.inference import load
from reid_core.inference.conversion import convert_checkpoint, convert_clip_weights
from reid_core.modeling.checkpoint import CheckpointError, read_checkpoint
from reid_core.modeling.clip import load_clip_weights, parameter_shapes
from reid_core.modeling.conversion import ConversionError
from reid_core.modeling.meta_arch import build_model
from reid_core.projects import load_config
from reid_core.registry import UnknownNameError
from tests.conftest import write_small_clip

SIE = {"MODEL__BACKBONE__SIE_CAMERA": True}


@pytest.fixture
def config(small_run):
    return lambda **more: load_config(None, small_run(**more))


@pytest.fixture
def theirs(config, tmp_path):
    """theirs(...) -> a baseline's file under the shared names, and the model that it is of."""

    def make(identities=5, cameras=2, change=lambda state: None, **more):
        torch.manual_seed(3)
        model = build_model(config(**more), "cpu", identities, cameras, 1)
        names = (("backbone.visual.", "image_encoder."), ("backbone.cv_embed", "cv_embed"), ("heads.", ""))
        state = {}
        for name, value in model.state_dict().items():
            for ours, other in names:
                if name.startswith(ours):
                    state[other + name.removeprefix(ours)] = value.clone()
        change(state)
        torch.save(state, tmp_path / "theirs.pth")
        return tmp_path / "theirs.pth", model.eval()

    return make


def _features(model):
    images = torch.randint(0, 256, (2, 3, 64, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        return model({"images": images, "camids": torch.tensor([0, 1])})


def test_the_same_features_and_what_lies_beside(theirs, config, tmp_path):
    source, model = theirs(**SIE)
    output = tmp_path / "new" / "a.pt"
    report = convert_checkpoint(source, output, config(**SIE))
    assert sorted(path.name for path in output.parent.iterdir()) == ["a.pt", "a.report.txt", "a.yaml"]
    assert torch.equal(_features(load(output, "cpu").model), _features(model))
    assert (output.parent / "a.report.txt").read_text() == report.text()
    content = read_checkpoint(output)
    assert content["data"]["camera_offsets"] == {"Market1501": 0}
    assert (content["data"]["num_cameras"], len(content["data"]["label_map"])) == (2, 5)
    assert content["config"] == (output.parent / "a.yaml").read_text()
    assert content["converted_from"]["file"] == "theirs.pth"


def test_the_report_has_a_line_for_every_name_of_both_sides(theirs, config, tmp_path):
    source, model = theirs()
    state = torch.load(source)
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}, source)
    lines = convert_checkpoint(source, tmp_path / "a.pt", config()).text().splitlines()
    table = {line.split()[0]: line.split()[1] for line in lines[lines.index("") + 2 :]}
    assert table.keys() == {*state, "-", "epoch"}
    assert table["classifier.weight"] == "heads.classifier.weight"
    assert table["-"] == "backbone.position_grid"
    assert {target for target in table.values() if target != "-"} == set(model.state_dict())
    assert '"module." taken from before every name' in "\n".join(lines)
    assert f"{len(state)} tensors taken over, 0 of the source not kept, 1 of ours not in the source" in lines


def test_it_is_evaluated_and_trained_from(theirs, small_run, tmp_path, capsys):
    source, _ = theirs(identities=6, **SIE)
    output = tmp_path / "a.pt"
    convert_checkpoint(source, output, load_config(None, small_run(**SIE)))
    words = ["--config-file", str(tmp_path / "a.yaml"), "MODEL.WEIGHTS", str(output)]
    assert main([*words[:2], "--eval-only", *words[2:]]) == 0
    scores = json.loads((tmp_path / "run" / "eval_metrics.json").read_text())["Market1501"]
    assert 0 < scores["mAP"] <= 100
    capsys.readouterr()
    assert main([*words, "OUTPUT_DIR", str(tmp_path / "tuned"), "SOLVER.MAX_EPOCHS", "1"]) == 0
    assert "Left out heads.classifier.weight, heads.classifier_proj.weight: they belong to the 6" in " ".join(
        capsys.readouterr().out.split()
    )


def test_with_the_training_data_the_classifiers_are_taken_over(theirs, small_run, tmp_path, capsys):
    cfg = load_config(None, small_run())
    source, _ = theirs(identities=6)
    convert_checkpoint(source, tmp_path / "a.pt", cfg, use_training_data=True)
    words = ["MODEL.WEIGHTS", str(tmp_path / "a.pt"), "OUTPUT_DIR", str(tmp_path / "tuned"), "SOLVER.MAX_EPOCHS", "1"]
    capsys.readouterr()
    assert main(["--config-file", str(tmp_path / "a.yaml"), *words]) == 0
    assert "Left out" not in capsys.readouterr().out
    source, _ = theirs(identities=7)
    with pytest.raises(ConfigError, match="has 6 identities, the source 7: it was trained on other data"):
        convert_checkpoint(source, tmp_path / "b.pt", cfg, use_training_data=True)


def test_the_patch_stride_follows_from_the_file(theirs, config, tmp_path):
    source, model = theirs(MODEL__BACKBONE__PATCH_STRIDE=12)
    report = convert_checkpoint(source, tmp_path / "a.pt", config())
    assert torch.equal(_features(load(tmp_path / "a.pt", "cpu").model), _features(model))
    assert "config: MODEL.BACKBONE.PATCH_STRIDE 12" in report.text()


def test_output_that_exists_is_kept_unless_told_otherwise(theirs, config, tmp_path):
    source, _ = theirs()
    for name in ("a.pt", "a.report.txt", "a.yaml"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(FileExistsError, match=rf"{name} exists; .*--overwrite"):
            convert_checkpoint(source, tmp_path / "a.pt", config())
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    (tmp_path / "a.pt").write_text("mine")
    convert_checkpoint(source, tmp_path / "a.pt", config(), overwrite=True)
    assert read_checkpoint(tmp_path / "a.pt")["model"]


def test_the_source_is_never_replaced(theirs, config, tmp_path):
    source, _ = theirs()
    before = source.read_bytes()
    (tmp_path / "link.pt").symlink_to(source)
    for output in (source, tmp_path / "link.pt"):
        with pytest.raises(FileExistsError, match="is the source itself"):
            convert_checkpoint(source, output, config(), overwrite=True)
    with pytest.raises(ConfigError, match="would be one file"):
        convert_checkpoint(source, tmp_path / "a.pt", config(), report_path=tmp_path / "a.pt")
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda state: state.pop("bottleneck.weight"), ConversionError, r"nothing fills heads\.bottleneck\.weight"),
        (lambda state: state.update(more=torch.ones(2)), ConversionError, r"more \[2\] is known to no rule.*config"),
        (lambda state: state.update(cv_embed=torch.ones(2, 32)), ConversionError, "SIE_CAMERA True"),
        (lambda state: state["bottleneck.bias"].fill_(float("nan")), CheckpointError, "NaN or infinity"),
        (
            lambda state: state.update({"image_encoder.proj": torch.ones(3, 3)}),
            ConversionError,
            r"image_encoder\.proj: \[3, 3\], backbone\.visual\.proj needs \[32, 16\]",
        ),
    ],
)
def test_nothing_is_written_of_what_does_not_fit(theirs, config, tmp_path, change, error, message):
    source, _ = theirs(change=change)
    (tmp_path / "out").mkdir()
    with pytest.raises(error, match=message):
        convert_checkpoint(source, tmp_path / "out" / "a.pt", config())
    assert not list((tmp_path / "out").iterdir())


def test_a_full_disk_leaves_what_was_there(theirs, config, tmp_path, monkeypatch):
    source, _ = theirs()
    (tmp_path / "a.pt").write_text("mine")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        convert_checkpoint(source, tmp_path / "a.pt", config(), overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pt", "theirs.pth"]
    assert (tmp_path / "a.pt").read_text() == "mine"


def test_converters_are_found_by_name(theirs, config, tmp_path):
    source, _ = theirs()
    with pytest.raises(UnknownNameError, match="No converter named 'Basline'. Did you mean 'Baseline'"):
        convert_checkpoint(source, tmp_path / "a.pt", config(), converter="Basline")


def test_one_training_set_has_to_be_named(theirs, config, tmp_path):
    source, _ = theirs()
    with pytest.raises(ConfigError, match=r"names 2 datasets \(Market1501, MSMT17\)"):
        convert_checkpoint(source, tmp_path / "a.pt", config(DATASETS__TRAIN="['Market1501', 'MSMT17']"))


@pytest.fixture
def clip(tmp_path):
    """A whole CLIP's random weights under OpenAI's names, half precision, and its architecture."""
    architecture = write_small_clip(tmp_path / "small.json")
    generator = torch.Generator().manual_seed(0)
    shapes = parameter_shapes(str(architecture))
    return str(architecture), {name: torch.randn(shape, generator=generator).half() for name, shape in shapes.items()}


@pytest.mark.parametrize("form", ["openai", "open_clip", "module"])
def test_clip_weights(clip, config, tmp_path, form):
    architecture, state = clip
    saved = {**state, "input_resolution": torch.tensor(224)}
    if form == "open_clip":
        saved = {name if name.startswith(("visual.", "logit")) else f"text.{name}": v for name, v in saved.items()}
    if form == "module":
        saved = {f"module.{name}": value for name, value in saved.items()}
    torch.save(saved, tmp_path / "clip.pt")
    cfg = config(MODEL__BACKBONE__ARCHITECTURE=architecture)
    report = convert_clip_weights(tmp_path / "clip.pt", tmp_path / "clip.safetensors", cfg)
    written = load_file(tmp_path / "clip.safetensors")
    assert written.keys() == state.keys()
    assert all(torch.equal(written[name], value.float()) for name, value in state.items())
    assert load_clip_weights(str(tmp_path / "clip.safetensors"), architecture).keys() == state.keys()
    fates = {entry.source: entry.target for entry in report.entries}
    assert fates.keys() == saved.keys() and sorted(fates.values()) == sorted(["", *state])
    with pytest.raises(FileExistsError):
        convert_clip_weights(tmp_path / "clip.pt", tmp_path / "clip.safetensors", cfg)


def test_clip_weights_that_are_refused(clip, config, tmp_path):
    architecture, state = clip
    cfg = config(MODEL__BACKBONE__ARCHITECTURE=architecture)
    with pytest.raises(FileNotFoundError, match="no weights file"):
        convert_clip_weights(tmp_path / "gone.pt", tmp_path / "clip.safetensors", cfg)
    torch.save({name: value for name, value in state.items() if name != "visual.proj"}, tmp_path / "clip.pt")
    with pytest.raises(ValueError, match=r"visual\.proj is missing"):
        convert_clip_weights(tmp_path / "clip.pt", tmp_path / "clip.safetensors", cfg)
    with pytest.raises(ConversionError, match=r"name the output clip\.safetensors"):
        convert_clip_weights(tmp_path / "clip.pt", tmp_path / "clip.bin", cfg)
    assert not (tmp_path / "clip.safetensors").exists()
