import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.data.datasets.market1501 import Market1501
from reid_core.data.rendering import RenderingOptions, render_dataset
from reid_core.evaluation import ReIDEvaluator
from reid_core.evaluation.color_histogram import color_histogram_features


def test_tensors_and_files_give_the_same_unit_rows(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 16), dtype=np.uint8)
    Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / "a.png")
    rows = color_histogram_features([torch.from_numpy(pixels), tmp_path / "a.png"])
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)


def test_a_picture_is_nearest_to_itself_in_another_light():
    colors = np.random.default_rng(1).integers(30, 200, (2, 3, 4, 2), dtype=np.uint8)
    first, second = (torch.from_numpy(np.repeat(np.repeat(color, 16, axis=1), 16, axis=2)) for color in colors)
    brighter = (first.float() * 1.25).clamp(max=255).to(torch.uint8)
    a, b, c = color_histogram_features([first, second, brighter])
    assert a @ c > a @ b


def test_no_images_and_a_missing_file(tmp_path):
    assert color_histogram_features([]).shape[0] == 0
    with pytest.raises(FileNotFoundError):
        color_histogram_features([tmp_path / "none.jpg"])


def test_the_default_rendering_is_too_hard_for_it_and_difficulty_makes_it_harder(tmp_path):
    """The baseline that the demo's difficulty was fixed against: at most 60 % mAP at the default."""
    scores = []
    for difficulty in (0.0, RenderingOptions().difficulty, 0.9):
        options = RenderingOptions(train_identities=1, test_identities=40, difficulty=difficulty)
        root = tmp_path / str(difficulty)
        render_dataset(root, options, workers=2)
        dataset = Market1501(str(root))
        evaluator = ReIDEvaluator("rendered", dataset.query, dataset.gallery)
        features = [color_histogram_features(r.path for r in split) for split in (dataset.query, dataset.gallery)]
        scores.append(evaluator.evaluate(*features)["mAP"])
    assert scores[0] > scores[1] > scores[2]
    assert 15 < scores[1] <= 60
