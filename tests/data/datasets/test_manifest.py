"""Manifests in every format, against a plain reading of the same rows."""

import csv
import json
import os
import random

import pyarrow
import pyarrow.parquet
import pytest

from reid_core.config import ConfigError
from reid_core.data.datasets import Manifest, manifest_files
from tests.data.conftest import touch

COLUMNS = ("path", "pid", "camid", "viewid", "split")
NAMELESS = (None, "", -1, "-1")


def write_table(path, rows, columns=COLUMNS):
    """Rows of values, None for none, as the path's ending says."""
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([columns, *(["" if value is None else value for value in row] for row in rows)])
    elif path.suffix == ".parquet":
        table = {name: [row[at] for row in rows] for at, name in enumerate(columns)}
        pyarrow.parquet.write_table(pyarrow.table(table), path)
    else:
        path.write_text("\n".join(json.dumps(dict(zip(columns, row, strict=True))) for row in rows) + "\n")
    return path


def records(dataset):
    return {split: [tuple(record) for record in getattr(dataset, split)] for split in ("train", "query", "gallery")}


def plainly(rows, folder):
    """The same rows read one by one: pids and cameras as ranks of their sorted texts or numbers."""

    def ranks(values):
        names = {str(value) for value in values if value not in NAMELESS}
        ordered = sorted(names, key=int) if all(name.isdigit() for name in names) else sorted(names)
        return lambda value: -1 if value in NAMELESS else ordered.index(str(value))

    pid_of, camera_of = ranks([row[1] for row in rows]), ranks([row[2] for row in rows])
    result = {"train": [], "query": [], "gallery": []}
    for path, pid, camera, view, split in rows:
        result[split].append((os.path.join(folder, path), pid_of(pid), camera_of(camera), int(view or 0)))
    return result


def drawn_rows(seed, number=150):
    """Names are all numbers, or all texts; some training images have no identity."""
    rng, junk = random.Random(seed), -1 if seed % 2 else "-1"
    name = (
        (lambda high: rng.randrange(high)) if seed % 2 else (lambda high: f"ä {rng.choice('zyx')}{rng.randrange(high)}")
    )
    rows = []
    for at in range(number):
        split = rng.choice(["train", "train", "query", "gallery"])
        pid = None if split == "train" and rng.random() < 0.2 else junk if rng.random() < 0.1 else name(120)
        rows.append((f"some, place/{at}.jpg", pid, name(7), rng.choice([None, 0, 3]), split))
    return rows


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_is_read_as_a_plain_loop_reads_it(tmp_path, monkeypatch, ending, seed):
    monkeypatch.setattr(manifest_files, "_BLOCK_ROWS", 50 - seed)  # an even and an odd number of blocks
    rows = drawn_rows(seed)
    write_table(tmp_path / f"crops.{ending}", rows)
    dataset = Manifest(str(tmp_path), f"crops.{ending}", check_files=False)
    expected = plainly(rows, str(tmp_path))
    assert records(dataset) == expected
    assert dataset.name == "crops" and dataset.kind == "person" and dataset.names_cameras
    texts = {str(row[1]) for row in rows} - {"None", "-1"}
    assert set(dataset.pid_values) == texts and len(dataset.pid_values) == len(texts)
    assert dataset.num_cameras == len({row[2] for row in rows}) and dataset.num_views == 4
    known = {pid for _, pid, _, _ in expected["train"]} - {-1}
    assert dataset.statistics()["train"].identities == len(known)


def test_only_path_and_pid_are_needed(tmp_path):
    write_table(tmp_path / "a.csv", [("x.jpg", "b"), ("y.jpg", "a")], ("path", "pid"))
    touch(tmp_path, ["x.jpg", "y.jpg"])
    dataset = Manifest(str(tmp_path), "a.csv", kind="vehicle")
    assert [tuple(record) for record in dataset.train] == [
        (str(tmp_path / "x.jpg"), 1, 0, 0),
        (str(tmp_path / "y.jpg"), 0, 0, 0),
    ]
    assert (len(dataset.query), len(dataset.gallery), dataset.num_cameras, dataset.kind) == (0, 0, 1, "vehicle")
    assert dataset.pid_values == ("a", "b") and "cameras unknown" in str(dataset)


@pytest.mark.parametrize("camid", [None, "", -1])
def test_unknown_cameras_of_query_and_gallery_differ(tmp_path, camid):
    rows = [("x.jpg", 1, camid, "train"), ("y.jpg", 2, camid, "query"), ("z.jpg", 2, camid, "gallery")]
    write_table(tmp_path / "a.csv", rows, ("path", "pid", "camid", "split"))
    dataset = Manifest(str(tmp_path), "a.csv", check_files=False)
    assert not dataset.names_cameras
    assert [dataset.train[0].camid, dataset.query[0].camid, dataset.gallery[0].camid] == [0, 0, 1]


def test_a_column_of_numbers_with_gaps(tmp_path):
    """As pandas writes one: floating point, NaN for the gaps."""
    rows = [("x.jpg", 10.0), ("y.jpg", float("nan")), ("z.jpg", 9.0), ("u.jpg", 0.5)]
    write_table(tmp_path / "a.parquet", rows, ("path", "pid"))
    dataset = Manifest(str(tmp_path), "a.parquet", check_files=False)
    assert dataset.pid_values == ("0.5", "10", "9") and dataset.train.pids.tolist() == [1, -1, 2, 0]


def test_absolute_paths_and_paths_above_the_manifest(tmp_path):
    touch(tmp_path / "images", ["x.jpg", "y.jpg"])
    (tmp_path / "lists").mkdir()
    rows = [("../images/x.jpg", 1), (str(tmp_path / "images" / "y.jpg"), 2)]
    write_table(tmp_path / "lists" / "a.csv", rows, ("path", "pid"))
    dataset = Manifest("/nowhere", str(tmp_path / "lists" / "a.csv"))
    assert [os.path.realpath(path) for path in dataset.train.paths] == [
        str(tmp_path / "images" / name) for name in ("x.jpg", "y.jpg")
    ]


def test_names_outside_utf8_survive(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    (tmp_path / name).touch()
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfpath,pid\r\ncaf\xe9.jpg,J\xfcrgen\r\n")
    dataset = Manifest(str(tmp_path), "a.csv")
    assert list(dataset.train.paths) == [str(tmp_path / name)]


def test_missing_images_are_listed_unless_switched_off(tmp_path):
    names = [f"{number}.jpg" for number in range(9)]
    touch(tmp_path, names[:1])
    write_table(tmp_path / "a.csv", [(name, 1) for name in names], ("path", "pid"))
    with pytest.raises(FileNotFoundError, match=r"8 images listed in .*a\.csv do not exist: 1\.jpg, .*5\.jpg \.\.\."):
        Manifest(str(tmp_path), "a.csv")
    assert len(Manifest(str(tmp_path), "a.csv", check_files=False).train) == 9


def test_a_column_that_looks_like_a_known_one_is_a_warning(tmp_path, caplog):
    write_table(tmp_path / "a.csv", [("x.jpg", 1, 2, 3)], ("path", "pid", "camera_id", "shutter"))
    Manifest(str(tmp_path), "a.csv", check_files=False)
    warnings = [record.getMessage() for record in caplog.records]
    assert any("'camera_id' is not read. Is it 'camid'?" in text for text in warnings)
    assert not any("shutter" in text for text in warnings)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no column 'path'.*Found: none"),
        ("path,pid\n", "holds no images"),
        ("path,person_id\na.jpg,1\n", "has no column 'pid'. Is it 'person_id'.*Found: path, person_id"),
        ("file,pid\na.jpg,1\n", "has no column 'path'.*Found: file, pid"),
        ("path,pid,pid\na.jpg,1,1\n", "two columns have one name"),
        ("path,pid\n\na.jpg,1\n,2\n", "line 4: the path is empty"),
        ("path,pid\na.jpg\n", "line 2: 1 values, the header names 2"),
        ('path,pid\n"a.jpg,1\n', "line 2: not readable as CSV"),
        (
            "path,pid,split\na.jpg,1,train\nb.jpg,1,test\n",
            "line 3: the split must be one of train, query, gallery.*'test'",
        ),
        ("path,pid,split\na.jpg,1,train\nb.jpg,,gallery\n", "line 3: a gallery image needs an identity"),
        ("path,pid,viewid\na.jpg,1,0\nb.jpg,1,left\n", "line 3: the viewpoint must be a whole number.*'left'"),
        ("path,pid,viewid\na.jpg,1,-2\n", "line 2: the viewpoint"),
        ("path,pid,split\na.jpg,1,train\nb.jpg,nan,query\n", "line 3: a query image needs an identity"),
        ("path,pid\na.jpg,1\nx\0.jpg,1\n", r"a\.csv, line 2 or one of the next 2: A path cannot hold a zero character"),
        ("path,pid,camid\na.jpg,1,0\nb.jpg,1,\nc.jpg,1,\n", "2 of 3 images have no camera .the first in line 3"),
        ("path,pid\na.jpg,1\nx/b.jpg,1\nx/../a.jpg,2\n", r"1 images are listed more than once: x/\.\./a\.jpg"),
        ("path,pid\na.jpg,1\n{here}/a.jpg,1\n", r"1 images are listed more than once: .*/a\.jpg"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, content, message):
    (tmp_path / "a.csv").write_text(content.replace("{here}", str(tmp_path)))
    with pytest.raises(ValueError, match=message):
        Manifest(str(tmp_path), "a.csv", check_files=False)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"path": "a.jpg", "pid": 1}\n{"path": "b.jpg" "pid": 1}\n', "line 2: not readable as JSON"),
        ("a.jsonl", '[{"path": "a.jpg", "pid": 1}]\n', "line 1: each line must be an object"),
        ("a.jsonl", '{"path": "a.jpg", "pid": [1]}\n', r"line 1: the pid cannot be used: \[1\] is neither text"),
        ("a.jsonl", '{"path": "a.jpg", "pid": true}\n', "line 1: the pid cannot be used: True"),
        ("a.jsonl", '{"path": "a.jpg"}\n', "has no column 'pid'"),
        ("a.jsonl", "[" * 100_000, "line 1: not readable as JSON"),
        ("a.jsonl", '{"path": "\\ud800.jpg", "pid": 1}\n', r"a\.jsonl, line 1 or .*surrogates not allowed"),
        ("a.parquet", "no Parquet", "is not readable as Parquet"),
        ("a.xlsx", "x", r"not a manifest: it must be a file that ends in one of \.csv, \.tsv, \.jsonl"),
    ],
)
def test_other_formats_that_cannot_be_read(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        Manifest(str(tmp_path), name, check_files=False)


def test_no_such_manifest_and_no_such_kind(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Manifest:a\.csv: .* does not exist.*DATASETS\.ROOT"):
        Manifest(str(tmp_path), "a.csv")
    with pytest.raises(ConfigError, match="KIND must be one of person, vehicle, got 'dog'"):
        Manifest(str(tmp_path), "a.csv", kind="dog")


def test_what_table_programs_write_for_no_identity(tmp_path):
    (tmp_path / "a.csv").write_text(
        "path,pid,split\na.jpg,7.0,train\nb.jpg,-1.0,train\nc.jpg,nan,train\nd.jpg,NaN,train\ne.jpg,-1.0,gallery\n"
    )
    dataset = Manifest(str(tmp_path), "a.csv", check_files=False)
    assert dataset.pid_values == ("7.0",)
    assert dataset.train.pids.tolist() == [0, -1, -1, -1] and dataset.gallery.pids.tolist() == [-1]


def test_a_manifest_beside_the_root_knows_its_images_by_every_path(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "a.csv").write_text(f"path,pid\na.jpg,1\n{tmp_path}/a.jpg,2\n")
    with pytest.raises(ValueError, match="1 images are listed more than once"):
        Manifest(str(tmp_path / "root"), "../a.csv", check_files=False)
