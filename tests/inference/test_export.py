"""Exported files: PyTorch's features in every format, precision and pixel convention; a refusal writes nothing."""

import hashlib
import json
import re
import sys
import zipfile

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

import reid_core as reid
from reid_core.config import get_cfg
from reid_core.inference import export, export_formats
from reid_core.inference.export import ExportOptions, export_model
from reid_core.inference.export_comparison import compare_scores, compare_speed, speed_table
from reid_core.inference.export_graph import ExportError, FeatureGraph, capture
from reid_core.inference.exported_model import ExportedModel
from reid_core.modeling.meta_arch import MetaArchitecture, build_model
from tests.paths import ROOT

IMAGENET = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def _build(architecture, cameras=0, views=0):
    cfg = get_cfg()
    keys = {"ARCHITECTURE": str(architecture), "PRETRAINED": "", "SIE_CAMERA": cameras > 0, "SIE_VIEW": views > 0}
    for key, value in keys.items():
        cfg.MODEL.BACKBONE[key] = value
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = [64, 32]
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = MEAN, STD
    torch.manual_seed(0)
    return build_model(cfg, "cpu", 0, cameras, views).eval(), cfg


@pytest.fixture(scope="module")
def vit(small_clip):
    return _build(small_clip)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    content = json.loads((ROOT / "configs" / "clip" / "tiny_rn.json").read_text())
    content["vision_cfg"]["layers"] = [1, 1, 1, 1]
    path = tmp_path_factory.mktemp("rn") / "rn.json"
    path.write_text(json.dumps(content))
    return _build(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def program(vit):
    """The ViT for unit images, captured once."""
    return capture(FeatureGraph(vit[0], "unit", True, ()), (64, 32))


@pytest.fixture(scope="module")
def resnet_program(resnet):
    """The ResNet for a tracker's images, features as they are, captured once."""
    return capture(FeatureGraph(resnet[0], "imagenet", False, ()), (64, 32))


@pytest.fixture
def captured(monkeypatch, program):
    monkeypatch.setattr(export, "capture", lambda *_: program)


@pytest.fixture
def captured_resnet(monkeypatch, resnet_program):
    monkeypatch.setattr(export, "capture", lambda *_: resnet_program)


@pytest.fixture(scope="module")
def unit_onnx(vit, folder):
    path = folder / "unit.onnx"
    export_model(*vit, path)
    return path


def _images(count, seed=0):
    return torch.randint(0, 256, (count, 3, 64, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def _features(model, images, **numbers):
    return F.normalize(model({"images": images, **numbers}), dim=1).numpy()


def _session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def _tracker_input(images):
    """As trackers prepare a crop: pixel / 255, then ImageNet's statistics, channel by channel."""
    mean, std = IMAGENET
    return np.stack([(images[:, c].numpy().astype(np.float32) / 255 - mean[c]) / std[c] for c in range(3)], axis=1)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_onnx_takes_any_number_of_unit_images(vit, unit_onnx, count):
    session, images = _session(unit_onnx), _images(count, seed=count)
    (entry,), (output,) = session.get_inputs(), session.get_outputs()
    assert (entry.name, entry.shape, entry.type) == ("images", ["batch", 3, 64, 32], "tensor(float)")
    assert (output.name, output.shape, output.type) == ("features", ["batch", 48], "tensor(float)")
    found = session.run(None, {"images": images.numpy().astype(np.float32) / 255})[0]
    np.testing.assert_allclose(found, _features(vit[0], images), atol=1e-5)


def test_the_file_says_what_it_is(vit, unit_onnx):
    import onnx

    content = onnx.load(unit_onnx)
    onnx.checker.check_model(content)
    about = {entry.key: entry.value for entry in content.metadata_props}
    assert about["input_size"] == "64x32"
    assert about["inputs"] == "images"
    assert (about["pixels"], about["normalised"], about["precision"]) == ("unit", "true", "float32")
    assert json.loads(about["pixel_mean"]) == MEAN
    assert about["config_sha256"] == hashlib.sha256(vit[1].dump().encode()).hexdigest()
    assert [entry.version for entry in content.opset_import if entry.domain == ""] == [18]
    assert ExportedModel(unit_onnx).metadata == about
    assert str(ROOT).encode() not in unit_onnx.read_bytes()  # nothing of the machine that wrote it


def test_a_trackers_normalisation_is_undone(resnet, captured_resnet, folder):
    path, images = folder / "tracker.onnx", _images(3)
    export_model(*resnet, path, ExportOptions(pixels="imagenet", normalise=False))
    found = _session(path).run(None, {"images": _tracker_input(images)})[0]
    with torch.no_grad():
        raw = resnet[0]({"images": images}).numpy()
    np.testing.assert_allclose(found, raw, atol=1e-5 * np.abs(raw).max())
    assert np.abs(np.linalg.norm(raw, axis=1) - 1).min() > 0.01  # so "raw" was seen


@pytest.mark.parametrize(("ending", "pixels"), [("pt2", "pixels"), ("torchscript", "model")])
def test_formats_of_pytorch(vit, folder, ending, pixels):
    path = folder / f"file.{ending}"
    export_model(*vit, path, ExportOptions(pixels=pixels))
    file, images = ExportedModel(path), _images(7)
    assert file.metadata["pixels"] == pixels
    np.testing.assert_allclose(file(images), _features(vit[0], images), atol=1e-5)
    if pixels == "model":
        mean, std = (np.float32(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
        given = torch.from_numpy((images.numpy() / np.float32(255) - mean) / std)
        np.testing.assert_allclose(torch.jit.load(path)(given).detach(), _features(vit[0], images), atol=1e-5)
    else:
        with zipfile.ZipFile(path) as archive:
            assert not any(str(ROOT).encode() in archive.read(name) for name in archive.namelist())
        found = torch.export.load(path).module()(images)
        np.testing.assert_allclose(found.detach(), _features(vit[0], images), atol=1e-5)


def _weight_bytes(path):
    import onnx

    return sum(len(tensor.raw_data) for tensor in onnx.load(path).graph.initializer)


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_short_precisions(vit, captured, tmp_path, unit_onnx, precision):
    path, images = tmp_path / "short.onnx", _images(4)
    agreement = export_model(*vit, path, ExportOptions(precision=precision))
    expected, found = _features(vit[0], images), ExportedModel(path)(images).numpy()
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() > 1e-6  # another arithmetic indeed
    assert (found * expected).sum(axis=1).min() > 0.99
    assert 0.99 < agreement.least_cosine <= agreement.mean_cosine < 1
    assert _weight_bytes(path) < (0.52 if precision == "float16" else 0.4) * _weight_bytes(unit_onnx)


def test_int8_of_a_resnet_quantises_its_convolutions(resnet, captured_resnet, folder):
    import onnx

    path, images = folder / "rn8.onnx", _images(4)
    export_model(*resnet, path, ExportOptions(pixels="imagenet", normalise=False, precision="int8"))
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count("ConvInteger") > 5
    assert "Conv" not in kinds
    found = F.normalize(ExportedModel(path)(images), dim=1).numpy()
    assert (found * _features(resnet[0], images)).sum(axis=1).min() > 0.99


@pytest.mark.parametrize(("ending", "views"), [("onnx", 0), ("torchscript", 3)])
def test_side_information_becomes_inputs(small_clip, folder, ending, views):
    model, cfg = _build(small_clip, cameras=4, views=views)
    nn.init.normal_(model.backbone.cv_embed)
    path, images = folder / f"side.{ending}", _images(3)
    numbers = {"camids": torch.tensor([3, 0, -1])}
    if views:
        numbers["viewids"] = torch.tensor([2, -1, 1])
    export_model(model, cfg, path, ExportOptions(side_information=True))
    file = ExportedModel(path)
    assert file.inputs == ["images", *numbers]
    np.testing.assert_allclose(file(images, **numbers), _features(model, images, **numbers), atol=1e-5)
    np.testing.assert_allclose(file(images), _features(model, images), atol=1e-5)
    assert np.abs(file(images, **numbers).numpy() - _features(model, images))[0].max() > 1e-2
    assert model.backbone.cv_embed is not None  # the model itself is as it was
    if ending == "onnx":
        with pytest.raises(Exception, match="invalid index|out of data bounds"):  # the runtime's own type
            file(images, camids=torch.tensor([4, 0, 0]))


def test_without_the_option_side_information_is_left_out(small_clip, folder):
    model, cfg = _build(small_clip, cameras=2)
    path, images = folder / "no_side.pt2", _images(2)
    export_model(model, cfg, path)
    file = ExportedModel(path)
    assert file.inputs == ["images"]
    np.testing.assert_allclose(file(images), _features(model, images), atol=1e-5)
    with pytest.raises(ValueError, match="exported without camids"):
        file(images, camids=torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("model.bin", {}, r"model\.bin says no format; use one of \.onnx"),
        ("model.pt2", {"precision": "int8"}, r"int8 is for \.onnx; model\.pt2 is written in float32"),
        ("model.onnx", {"side_information": True}, "trained without side information"),
        ("folder.onnx", {}, "is a folder; name a file"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(vit, tmp_path, monkeypatch, name, options, problem):
    monkeypatch.setattr(export, "capture", lambda *_: pytest.fail("work was done"))
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ExportError, match=problem) as caught:
        export_model(*vit, tmp_path / name, ExportOptions(**options))
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.onnx"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"pixels": "bgr"}, "one of pixels, unit, imagenet, model, got 'bgr'"),
        ({"precision": "int4"}, "float32, float16, int8, got 'int4'"),
        ({"opset": 11}, "18 or later"),
    ],
)
def test_options_that_do_not_exist(options, problem):
    with pytest.raises(ExportError, match=problem):
        ExportOptions(**options)


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(vit, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExportError, match=rf"need {package}, .*pip install 'reid-core\[export\]'") as caught:
        export_model(*vit, tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_weights_that_one_file_cannot_hold(vit, captured, tmp_path, monkeypatch):
    monkeypatch.setattr(export_formats, "ONNX_LIMIT", 1000)
    with pytest.raises(ExportError, match=r"at most 2 GB\. Export to \.pt2"):
        export_model(*vit, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_torch_without_torchscript(vit, captured, tmp_path, monkeypatch):
    monkeypatch.delattr(torch.jit, "trace")
    with pytest.raises(ExportError, match="no TorchScript any more"):
        export_model(*vit, tmp_path / "model.torchscript")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("limit", "precision", "ending"), [("TOLERANCE", "float32", "pt2"), ("LEAST_COSINE", "int8", "onnx")]
)
def test_a_file_whose_features_differ_is_not_written(vit, captured, tmp_path, monkeypatch, limit, precision, ending):
    before = tmp_path / f"model.{ending}"
    before.write_bytes(b"an earlier one")
    monkeypatch.setattr(export, limit, 1e-12 if limit == "TOLERANCE" else 1.1)
    with pytest.raises(ExportError, match="was not written: "):
        export_model(*vit, before, ExportOptions(precision=precision))
    assert before.read_bytes() == b"an earlier one"
    assert len(list(tmp_path.iterdir())) == 1


class _Branching(MetaArchitecture):
    def features(self, batch):
        images = self.images(batch).mean(dim=(2, 3))
        return images if images.sum() > 0 else -images


def test_a_model_that_cannot_be_captured(vit, tmp_path):
    with pytest.raises(ExportError, match="_Branching cannot be captured by torch.export") as caught:
        export_model(_Branching(MEAN, STD), vit[1], tmp_path / "model.pt2")
    assert "\n" not in str(caught.value)


def test_files_that_are_not_ours(tmp_path):
    for name in ("a.onnx", "a.pt2", "a.torchscript"):
        path = tmp_path / name
        path.write_bytes(b"not a model")
        with pytest.raises(ExportError, match=f"{re.escape(name)} is no exported model of this toolkit") as caught:
            ExportedModel(path)
        assert "\n" not in str(caught.value)


def test_images_of_another_size_or_type_are_refused(unit_onnx):
    file = ExportedModel(unit_onnx)
    for images in (torch.zeros(2, 3, 64, 32), torch.zeros(2, 3, 32, 64, dtype=torch.uint8)):
        with pytest.raises(ValueError, match=r"takes uint8 images \[N, 3, 64, 32\]"):
            file(images)


def test_speed_is_measured_of_both(vit, unit_onnx):
    times = compare_speed(vit[0], {"exported": ExportedModel(unit_onnx)}, batches=(1, 2), rounds=2)
    assert list(times) == [1, 2]
    assert all(0 < seconds[name] < 10 for seconds in times.values() for name in ("pytorch", "exported"))
    rows = [line.split() for line in speed_table(times).splitlines()[2:]]
    assert [row[:2] for row in rows] == [[str(n), side] for n in (1, 2) for side in ("pytorch", "exported")]
    assert float(rows[0][3]) == pytest.approx(1 / times[1]["pytorch"], rel=0.01)


def test_scores_are_those_of_the_trained_model(camera_checkpoint, tmp_path):
    trained = reid.load(camera_checkpoint, device="cpu")
    path = tmp_path / "model.pt2"
    export_model(trained.model, trained.cfg, path, ExportOptions(side_information=True))
    both = [
        compare_scores(trained.model, ExportedModel(path), trained.cfg, offsets)["Market1501"]
        for offsets in (trained.camera_offsets, {})
    ]
    for results in both:
        assert results["exported"]["mAP"] == pytest.approx(results["pytorch"]["mAP"], abs=1e-4)
    known = json.loads((camera_checkpoint.parent / "metrics.json").read_text())["Market1501"]["mAP"]
    assert both[0]["exported"]["mAP"] == pytest.approx(known, abs=1e-3)


def test_the_snippet_of_the_docs_runs(vit, unit_onnx, tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "export.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.S)
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "model.onnx").write_bytes(unit_onnx.read_bytes())
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "b.jpg"):
        small = Image.fromarray(rng.integers(0, 256, (8, 5, 3), dtype=np.uint8))
        small.resize((61, 150), Image.Resampling.BICUBIC).save(tmp_path / name, quality=95)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(snippet, names)  # the page's own text
    assert capsys.readouterr().out.count("[") == 3
    expected = reid.ReIDModel(*vit).encode(["a.jpg", "b.jpg"])
    assert (names["features"] * expected).sum(axis=1).min() > 0.9999
