"""Query and gallery from feature files: what is read of each format, and what does not fit is refused by name."""

import numpy as np
import pytest

from reid_core.data.feature_files import FeatureColumns, write_features
from reid_core.evaluation.labelled_features import read_query_and_gallery
from reid_core.structures import ReIDImage

GOOD = {"features": np.eye(3, 4, dtype=np.float32), "pids": np.array([5, -1, 7]), "camids": np.array([0, 2, 1])}


def read_one(path, **options):
    return read_query_and_gallery(path, path, **options)[0]


def test_a_file_with_everything(tmp_path):
    np.savez(tmp_path / "q.npz", **GOOD, paths=np.array(["a.jpg", "b/\udce9.jpg", "/abs/c.jpg"]))
    found = read_one(tmp_path / "q.npz")
    assert (found.features == GOOD["features"]).all() and "path" in found.columns and found.names_cameras
    folder = str(tmp_path)
    assert list(found.records) == [
        ReIDImage(f"{folder}/a.jpg", 5, 0),
        ReIDImage(f"{folder}/b/\udce9.jpg", -1, 2),
        ReIDImage("/abs/c.jpg", 7, 1),
    ]


def test_a_file_with_what_is_needed_only(tmp_path):
    np.savez(tmp_path / "q.npz", features=GOOD["features"], pids=GOOD["pids"])
    found = read_one(tmp_path / "q.npz")
    assert "path" not in found.columns and not found.names_cameras
    assert list(found.records) == [ReIDImage("", pid, 0) for pid in (5, -1, 7)]


@pytest.mark.parametrize("ending", ["parquet", "npz", "h5"])
def test_every_format_and_names_on_one_side(tmp_path, ending):
    """Names of both sides are numbered together; unknown ones are -1."""
    if ending == "h5":
        pytest.importorskip("h5py", reason="needs the extra 'hdf5'")
    query = {"feature": np.eye(3, dtype=np.float32), "pid": ["b", "", "10"], "camid": ["gate", "door", "gate"]}
    gallery = {"feature": np.eye(2, 3, dtype=np.float32), "pid": np.array([10, -1]), "camid": ["door", ""]}
    for side, columns in (("query", query), ("gallery", gallery)):
        write_features(tmp_path / f"{side}.{ending}", FeatureColumns(columns))
    first, second = read_query_and_gallery(tmp_path / f"query.{ending}", tmp_path / f"gallery.{ending}")
    assert first.records.pids.tolist() == [1, -1, 0] and second.records.pids.tolist() == [0, -1]
    assert first.records.camids.tolist() == [1, 0, 1] and second.records.camids.tolist() == [0, -1]
    assert first.names_cameras and not second.names_cameras
    assert (first.features == query["feature"]).all() and (second.features == gallery["feature"]).all()
    assert list(first.columns["pid"]) == query["pid"]


def test_one_file_is_both_sides(tmp_path):
    columns = {
        "feature": np.arange(8, dtype=np.float32).reshape(4, 2),
        "pid": np.array([1, 2, 3, 4]),
        "split": ["gallery", "query", "train", "gallery"],
    }
    write_features(tmp_path / "all.parquet", FeatureColumns(columns))
    query, gallery = read_query_and_gallery(tmp_path / "all.parquet", tmp_path / "all.parquet")
    assert query.records.pids.tolist() == [2] and gallery.records.pids.tolist() == [1, 4]
    assert query.features.tolist() == [[2, 3]] and gallery.features.tolist() == [[0, 1], [6, 7]]
    columns["split"][1] = "train"
    write_features(tmp_path / "all.parquet", FeatureColumns(columns))
    with pytest.raises(ValueError, match="no row has 'query' in its column split"):
        read_one(tmp_path / "all.parquet")


def test_where_relative_paths_begin(tmp_path, monkeypatch):
    """At the file's folder; for images that are only in the working folder, as the extraction names them, there."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    np.savez(tmp_path / "q.npz", **GOOD, paths=np.array(["a.jpg", "b.jpg", ""]))
    assert [record.path for record in read_one(tmp_path / "q.npz").records] == [
        f"{tmp_path}/a.jpg",
        f"{tmp_path}/b.jpg",
        "",
    ]
    (tmp_path / "here" / "a.jpg").touch()
    assert [record.path for record in read_one(tmp_path / "q.npz").records] == ["a.jpg", "b.jpg", ""]
    (tmp_path / "a.jpg").touch()
    assert read_one(tmp_path / "q.npz").records[0].path == f"{tmp_path}/a.jpg"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features": GOOD["features"]}, "has no column 'pid'"),
        ({**GOOD, "features": np.eye(3, dtype=int)}, "'feature' must hold floating-point numbers, found whole numbers"),
        ({**GOOD, "features": np.zeros(3)}, r"must be a matrix \[images, width\]"),
        ({**GOOD, "pids": np.array([1.5, 2, 3])}, "'pid' must hold whole numbers"),
        ({**GOOD, "camids": np.array([1, 2])}, "'camids' has 2 values, there are 3 features"),
        ({**GOOD, "paths": np.array([1, 2, 3])}, "'path' must hold text"),
        ({**GOOD, "paths": np.array(["a", None, "b"], dtype=object)}, "'paths' has the type object"),
    ],
)
def test_files_that_do_not_fit(tmp_path, arrays, message):
    np.savez(tmp_path / "q.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_one(tmp_path / "q.npz")


def test_cameras_that_are_asked_for(tmp_path):
    np.savez(tmp_path / "some.npz", **{**GOOD, "camids": np.array([0, -1, -1])})
    np.savez(tmp_path / "none.npz", features=GOOD["features"], pids=GOOD["pids"])
    assert not read_one(tmp_path / "some.npz").names_cameras
    with pytest.raises(ValueError, match="2 query images have no camera"):
        read_one(tmp_path / "some.npz", needs_cameras=True)
    with pytest.raises(ValueError, match="has no column 'camid'"):
        read_one(tmp_path / "none.npz", needs_cameras=True)


def test_a_file_that_is_gone(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no feature file .*gone.npz"):
        read_one(tmp_path / "gone.npz")
