"""What features are extracted of: order, labels, and what is refused."""

import json

import numpy as np
import pytest
from PIL import Image

from reid_core.inference.image_sources import open_images
from reid_core.inference.inputs import list_images


@pytest.fixture
def folder(tmp_path):
    """Images at several depths, and what is none."""
    for name in ("b/7_c2.jpg", "b.d/8_c1.PNG", "a_c3.jpg", "b/deep/10_c2.jpeg", "b/.hidden.jpg", "notes.txt"):
        path = tmp_path / "shop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("txt"):
            path.write_text("x")
        else:
            Image.new("RGB", (4, 8)).save(path)
    return tmp_path / "shop"


def everything(source):
    return source.columns(np.arange(len(source)))


def test_a_folder_is_read_as_encode_reads_it(folder):
    source = open_images(folder)
    assert everything(source) == {"path": [str(path) for path in list_images(folder)]}
    assert len(source) == 4
    assert list(source.images(np.array([1, 3]))) == [list_images(folder)[place] for place in (1, 3)]


def test_labels_by_a_pattern(folder):
    (folder / "a_c3.jpg").unlink()
    columns = everything(open_images(folder, r"(?P<pid>[0-9]+)_c(?P<camid>[0-9])"))
    assert columns["pid"].tolist() == [7, 10, 8]  # of b/7, b/deep/10, b.d/8
    assert columns["camid"].tolist() == [2, 2, 1]
    with pytest.raises(ValueError, match="1 of 3 images .* do not fit the pattern '_c1'|must have named groups"):
        open_images(folder, "_c1")
    with pytest.raises(
        ValueError, match=r"2 of 3 images .* do not fit the pattern .*: b/7_c2\.jpg, b/deep/10_c2\.jpeg"
    ):
        open_images(folder, "(?P<pid>8)_c1")
    for pattern, text in (("(", "no regular expression"), ("(?P<who>a)", "named groups out of pid, camid, viewid")):
        with pytest.raises(ValueError, match=text):
            open_images(folder, pattern)


def test_lists(folder):
    (folder.parent / "list.txt").write_text("shop/b/7_c2.jpg\n\n  shop/a_c3.jpg\n")
    assert everything(open_images(folder.parent / "list.txt"))["path"] == [
        str(folder / "b/7_c2.jpg"), str(folder / "a_c3.jpg")
    ]  # fmt: skip
    (folder.parent / "list.csv").write_text("camid,path,pid,timestamp\ngate 1,x.jpg,7,\n,/y.jpg,,12.5\n")
    columns = everything(open_images(folder.parent / "list.csv"))
    assert columns["path"] == [str(folder.parent / "x.jpg"), "/y.jpg"]
    assert columns["camid"] == ["gate 1", ""]
    assert columns["pid"].tolist() == [7, -1]
    assert np.array_equal(columns["timestamp"], [np.nan, 12.5], equal_nan=True)
    rows = [{"path": "a", "pid": "007"}, {"path": "b", "pid": 7, "split": "query"}]
    (folder.parent / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    columns = everything(open_images(folder.parent / "list.jsonl"))
    assert columns["pid"] == ["007", "7"]  # as numbers these two would be one
    assert columns["split"] == ["", "query"]


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.csv", "file,pid\nx,1\n", "no column 'path'. Found: file, pid. It needs path and may have pid, camid"),
        ("a.csv", "path,pid\n,1\n", "line 2: the path is empty"),
        ("a.csv", "path,viewid\nx,left\n", "viewid must be a whole number, got 'left'"),
        ("a.csv", "path,timestamp\nx,noon\n", "timestamp must be a number of seconds, got 'noon'"),
        ("a.jsonl", '{"path": ["x"]}', "line 1: the path cannot be used"),
        ("a.csv", "path\n", "no images"),
        ("a.txt", "\n", "holds no image: it is empty"),
        ("a.mp4", "x", r"neither a folder nor a list .* \(A video needs --boxes\.\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path, name, content, text):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=text) as caught:
        open_images(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither a folder nor a list"):
        open_images(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image: no file below it ends in"):
        open_images(tmp_path / "empty")


def test_the_digest_changes_with_files_and_labels_alone(folder):
    rows = np.arange(4)
    before = open_images(folder).digest(rows)
    assert open_images(folder).digest(rows) == before
    assert open_images(folder, "(?P<camid>[0-9])").digest(rows) != before
    Image.new("RGB", (5, 8)).save(folder / "a_c3.jpg")
    after = open_images(folder)
    assert after.digest(rows) != before
    assert after.digest(rows[1:]) == open_images(folder).digest(rows[1:])
    (folder / "a_c3.jpg").unlink()
    assert after.digest(rows) != before
