"""The report with its pictures, from arrays: what is drawn, what is left out and why, the same bytes twice."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from reid_core.data.image_table import ImageTable
from reid_core.evaluation import evaluate
from reid_core.evaluation.visual_report import (
    PICTURES,
    Attention,
    Evaluation,
    ReportOptions,
    choose_images,
    write_visual_report,
)
from tests.evaluation.test_report import Page

ROWS = {"model": {"mAP": 12.3}}
OPTIONS = ReportOptions(queries=2, length=3, identities=4, images=5)


def evaluation_of(ranked_set, names_cameras=True, camera_rule=True, spread=0.4, keep=slice(None)):
    """Of random features near their identity's, of the images of `ranked_set`."""
    generator = np.random.default_rng(1)
    centres = generator.standard_normal((8, 16))
    tables = [ImageTable.from_records(ranked_set.query[keep]), ImageTable.from_records(ranked_set.gallery[keep])]
    features = [centres[side.pids] + spread * generator.standard_normal((len(side), 16)) for side in tables]
    labels = [getattr(side, column) for column in ("pids", "camids") for side in tables]
    results = evaluate(
        *features,
        *labels,
        per_query=True,
        top_k=20,
        camera_rule=camera_rule,
        camera_pairs=names_cameras and camera_rule,
    )
    return Evaluation("A set", *tables, *features, results, "cosine", False, camera_rule, names_cameras)


def written(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_all_pictures_and_the_same_bytes_twice(ranked_set, tmp_path):
    evaluation = evaluation_of(ranked_set)
    attention = Attention(b"\x89PNG whole", {"Best queries": b"\x89PNG part"})
    for name in ("first", "second"):
        path = write_visual_report(tmp_path / name, "A title", evaluation, ROWS, attention=attention, options=OPTIONS)
    assert path == tmp_path / "second" / "report.html"
    files = written(tmp_path / "first")
    assert set(files) == {"report.html", *PICTURES}
    assert files == written(tmp_path / "second")
    assert files["attention.png"] == attention.whole
    page = files["report.html"].decode()
    assert all(image["alt"] for image in Page(page).all("img"))
    assert page.count("data:image/png;base64,") == 5  # two embeddings, one part of the attention, two camera maps
    for heading in ("Embedding", "Attention", "Cameras", "Ranked lists", "Retrieval"):
        assert f">{heading}</h2>" in page
    assert page.count('class="ranked"') == 4
    other = tmp_path / "third"
    write_visual_report(other, "A title", evaluation, ROWS, attention=attention, options=replace(OPTIONS, seed=1))
    assert written(other)["embedding_identity.png"] != files["embedding_identity.png"]


def test_without_cameras_no_picture_speaks_of_them(ranked_set, tmp_path):
    evaluation = evaluation_of(ranked_set)
    write_visual_report(tmp_path, "A title", evaluation, ROWS, options=OPTIONS)
    assert (tmp_path / "cameras.png").exists()
    evaluation = evaluation_of(ranked_set, names_cameras=False, camera_rule=False)
    write_visual_report(tmp_path, "A title", evaluation, ROWS, options=OPTIONS)
    missing = {"embedding_camera.png", "cameras.png", "attention.png"}
    assert set(written(tmp_path)) == {"report.html", *PICTURES} - missing  # the earlier report's are gone
    page = (tmp_path / "report.html").read_text()
    assert page.count("It is not known which camera took an image.") == 2
    assert "there is no model to ask" in page
    assert "camera 1" not in page and "cam 1" not in page and "another camera" not in page


def test_without_image_files_there_are_no_lists(ranked_set, tmp_path):
    evaluation = replace(evaluation_of(ranked_set), has_pictures=False)
    write_visual_report(tmp_path, "A title", evaluation, ROWS, options=OPTIONS)
    assert not {"ranked_best.png", "ranked_worst.png"} & set(written(tmp_path))
    page = (tmp_path / "report.html").read_text()
    assert "There are no paths of images." in page and 'class="ranked"' not in page


def test_names_outside_utf8(ranked_set, tmp_path):
    evaluation = evaluation_of(ranked_set)
    path = tmp_path / "odd\udce9.jpg"
    shutil.copy(evaluation.query[0].path, path)
    records = [evaluation.query[0]._replace(path=str(path)), *list(evaluation.query)[1:]]
    evaluation = replace(evaluation, query=ImageTable.from_records(records))
    write_visual_report(tmp_path / "out", "A \udce9 title", evaluation, ROWS, settings={"x": "\udce9"}, options=OPTIONS)
    assert "A \\udce9 title" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_features_that_are_all_the_same_are_reported_all_the_same(ranked_set, tmp_path):
    evaluation = evaluation_of(ranked_set)
    constant = [np.ones((len(side), 4)) for side in (evaluation.query, evaluation.gallery)]
    evaluation = replace(evaluation, query_features=constant[0], gallery_features=constant[1])
    write_visual_report(tmp_path, "A title", evaluation, ROWS, options=OPTIONS)
    assert "distances.png" in written(tmp_path) and "embedding_identity.png" not in written(tmp_path)
    assert "features are the same; there is nothing to draw" in (tmp_path / "report.html").read_text()


def test_the_sample_is_of_the_queries_identities_and_of_several_images_first():
    pids = np.array([0] * 50 + [-1] * 9 + list(range(1, 11)) + [3] * 4 + [7] * 30)
    chosen = choose_images(pids, np.arange(-1, 11)[[0, *range(2, 12)]], ReportOptions(identities=2, images=6))
    found, counts = np.unique(pids[chosen], return_counts=True)
    assert found.tolist() == [3, 7] and counts.tolist() == [5, 6]
    assert (np.diff(chosen) > 0).all()
    everything = choose_images(pids, np.arange(1, 11), ReportOptions(identities=77, images=100))
    assert sorted(pids[everything]) == sorted(pids[pids > 0])
    assert not len(choose_images(pids, np.array([99]), ReportOptions()))
    draws = [choose_images(pids, np.arange(11), ReportOptions(identities=1, images=2, seed=seed)) for seed in range(9)]
    assert len({tuple(draw) for draw in draws}) > 1


@pytest.mark.parametrize("wrong", [{"queries": 0}, {"length": 51}, {"identities": 78}, {"images": -1}])
def test_options_out_of_range(wrong):
    with pytest.raises(ValueError, match=f"number of {next(iter(wrong))} must be from 1 to"):
        ReportOptions(**wrong)
