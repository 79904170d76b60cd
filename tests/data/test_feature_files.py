"""Feature files: what is written is read, byte for byte the same each time; hostile files are refused by name."""

import io
import zipfile

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from reid_core.data.feature_files import FeatureColumns, open_features, write_features

try:
    import h5py
except ImportError:
    h5py = None

NEEDS_H5PY = pytest.mark.skipif(h5py is None, reason="needs h5py: pip install reid-core[hdf5]")
ENDINGS = [".parquet", ".npz", pytest.param(".h5", marks=NEEDS_H5PY)]


def columns(count, width=5, half=False, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "path": [f"shop/ä{number}.jpg" for number in range(count)],
        "frame": rng.integers(0, 2**40, count),
        "x": rng.normal(size=count),
        "track": [f"t{number % 3}" for number in range(count)],
        "pid": rng.integers(-1, 9, count),
        "camid": ["gate, \"1\"" if number % 2 else "" for number in range(count)],
        "timestamp": np.where(rng.random(count) < 0.5, np.nan, rng.random(count)),
        "feature": rng.normal(size=(count, width)).astype(np.float16 if half else np.float32),
    }  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("count", [1, 9001])  # one block, and more than two
def test_what_is_written_is_read(tmp_path, ending, half, count):
    written, path = columns(count, half=half), tmp_path / f"features{ending}"
    write_features(path, FeatureColumns(written, {"model": "abc", "flip": True}))
    table = open_features(path, ["pid", "camid"])
    assert (table.count, table.width, table.metadata) == (count, 5, {"model": "abc", "flip": True})
    assert table.dtype == written["feature"].dtype
    read = table.read(list(table.types))
    assert read.keys() == written.keys()
    for name, values in written.items():
        if isinstance(values, list):
            assert read[name] == values, name
        else:
            assert np.array_equal(read[name], values, equal_nan=True), name
    assert read["feature"].dtype == np.float32
    content = path.read_bytes()
    write_features(path, FeatureColumns(written, {"flip": True, "model": "abc"}))
    assert path.read_bytes() == content


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
                       st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=8)
)  # fmt: skip
def test_any_text_and_any_number_survive(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("any")
    texts, numbers = (list(side) for side in zip(*rows, strict=True))
    written = {"path": texts, "pid": np.array(numbers), "feature": np.ones((len(rows), 2), np.float32)}
    for ending in (".parquet", ".npz", *([".h5"] if h5py else [])):
        write_features(folder / f"f{ending}", FeatureColumns(written))
        read = open_features(folder / f"f{ending}").read(["path", "pid"])
        assert read["path"] == texts
        assert read["pid"].tolist() == numbers


def test_numpy_reads_what_is_written(tmp_path):
    write_features(tmp_path / "f.npz", FeatureColumns(columns(7)))
    with np.load(tmp_path / "f.npz", allow_pickle=False) as file:
        assert np.array_equal(file["features"], columns(7)["feature"])
        assert file["paths"].tolist() == columns(7)["path"]
        assert file["pids"].dtype == np.int64


def test_files_made_elsewhere(tmp_path):
    features = np.random.default_rng(0).normal(size=(3, 4))
    np.savez_compressed(
        tmp_path / "a.npz", features=features, pids=np.array([1.0, np.nan, 3.0]), camids=[b"a", b"b", b"c"]
    )
    table = pa.table(
        {"feature": [row.tolist() for row in features], "pid": pa.array([1, None, 3], pa.int8()),
         "camid": pa.array(["a", "b", "c"]).dictionary_encode(), "mood": [object.__name__] * 3}
    )  # fmt: skip
    parquet.write_table(table, tmp_path / "a.parquet")
    for name in ("a.npz", "a.parquet"):
        read = open_features(tmp_path / name).read(["feature", "pid", "camid"])
        assert np.array_equal(read["feature"], features.astype(np.float32))
        assert read["pid"].tolist() == [1, -1, 3]
        assert read["camid"] == ["a", "b", "c"]


FEATURES = np.ones((3, 2), np.float32)


def _patched(array, shape):
    """An .npy that says another shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": array.dtype.str, "fortran_order": False, "shape": shape})
    return file.getvalue() + array.tobytes()


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"features": np.array([{}, {}], dtype=object)}, "'features' .* matrix"),
        ({"features": FEATURES, "pids": np.array([{}, {}, {}], dtype=object)}, "type object, which is not read"),
        ({"features": FEATURES.astype(np.int8)}, "must hold floating-point numbers, found whole numbers"),
        ({"features": FEATURES[0]}, r"a matrix .* found shape \[2\]"),
        ({"features": np.asfortranarray(np.ones((3, 2)))}, "in Fortran order"),
        ({"features": FEATURES[:0]}, r"holds no features: its matrix is \[0, 2\]"),
        ({"features": FEATURES, "pids": [1, 2]}, "'pids' has 2 values, there are 3 features"),
        ({"features": FEATURES, "pids": [1.5, 2, 3]}, "'pid' must hold whole numbers"),
        ({"features": FEATURES, "pids": np.array([2**64 - 1] * 3, np.uint64)}, "more than an int64"),
        ({"features": FEATURES, "paths": [1, 2, 3]}, "'path' must hold text, found numbers"),
        ({"features": FEATURES, "feature": FEATURES}, "both a column 'features' and a column 'feature'"),
        ({"featurs": FEATURES, "pids": [1, 2, 3]}, r"no column 'feature'. Is it 'featurs'\? .* Found: featurs, pids"),
        ({}, "no column 'feature'. Found: none"),
    ],
)
def test_an_npz_that_does_not_fit_is_refused_in_one_line(tmp_path, arrays, text):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=text) as caught:
        open_features(tmp_path / "bad.npz").read(["feature", *(["pid"] if "pids" in arrays else [])])
    assert str(tmp_path / "bad.npz") in str(caught.value) and "\n" not in str(caught.value)


def test_an_npz_that_lies_about_its_size_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "lies.npz", "w") as archive:
        archive.writestr("features.npy", _patched(FEATURES, (10**12, 10**6)))
    with pytest.raises(ValueError, match=r"'features' should take \d+ bytes by its shape .* but has 24"):
        open_features(tmp_path / "lies.npz")
    bomb = np.zeros((20_000, 500), np.float32)
    np.savez_compressed(tmp_path / "bomb.npz", features=bomb)
    with pytest.raises(ValueError, match="was refused: it says that it holds features"):
        open_features(tmp_path / "bomb.npz")


@pytest.mark.parametrize("ending", ENDINGS)
def test_damaged_files_are_errors_that_name_them(tmp_path, ending):
    path = tmp_path / f"f{ending}"
    write_features(path, FeatureColumns(columns(300)))
    content = path.read_bytes()
    failures = 0
    for cut in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(ValueError, match=path.name):
            open_features(path).read(["feature", "path"])
        failures += 1
    assert failures == 4


def test_flipped_bytes_never_do_worse_than_a_value_error(tmp_path):
    rng = np.random.default_rng(0)
    for ending in (".parquet", ".npz"):
        path = tmp_path / f"f{ending}"
        write_features(path, FeatureColumns(columns(20)))
        content = np.frombuffer(path.read_bytes(), np.uint8)
        refused = 0
        for _ in range(60):
            broken = content.copy()
            broken[rng.integers(0, len(content), 4)] = rng.integers(0, 256, 4)
            path.write_bytes(broken.tobytes())
            try:
                found = open_features(path, ["path", "pid"]).read(["feature", "path", "pid"])
                assert found["feature"].shape == (20, 5)
            except ValueError:
                refused += 1
        assert refused


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (pa.table({"feature": [[1.0, 2.0], [1.0]]}), "every feature must have 2 numbers, as the first; one has 1"),
        (pa.table({"feature": [[1.0, 2.0], None]}), "must have 2 numbers"),
        (pa.table({"feature": [[1.0, None]]}), "some are missing"),
        (pa.table({"feature": [1.0, 2.0]}), "must hold lists of floating-point numbers, found double"),
        (pa.table({"feature": [["a"]]}), "found list<.*string>"),
        (pa.table({"feature": [[1.0]], "pid": [[1]]}), "'pid' must hold whole numbers or text, found list"),
        (pa.table({"pid": [1]}), "no column 'feature'. Found: pid"),
    ],
)
def test_a_parquet_file_that_does_not_fit_is_refused(tmp_path, table, text):
    parquet.write_table(table, tmp_path / "bad.parquet")
    with pytest.raises(ValueError, match=text):
        open_features(tmp_path / "bad.parquet").read(["feature"])


@NEEDS_H5PY
def test_hdf5_follows_no_links_and_believes_no_size(tmp_path):
    write_features(tmp_path / "other.h5", FeatureColumns(columns(3)))
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["features"] = h5py.ExternalLink("other.h5", "/features")
    with pytest.raises(ValueError, match="'features' is a link to data elsewhere"):
        open_features(tmp_path / "link.h5")
    (tmp_path / "raw").write_bytes(FEATURES.tobytes())
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file.create_dataset("features", (3, 2), "<f4", external=[(str(tmp_path / "raw"), 0, 24)])
    with pytest.raises(ValueError, match="data in this file"):
        open_features(tmp_path / "raw.h5")
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("features", (10**9, 1000), "<f4", chunks=(100, 1000))
    with pytest.raises(ValueError, match="was refused: it says that it holds"):
        open_features(tmp_path / "huge.h5")
    with h5py.File(tmp_path / "group.h5", "w") as file:
        file.create_group("features")
    with pytest.raises(ValueError, match="must be a dataset"):
        open_features(tmp_path / "group.h5")


def test_hdf5_without_h5py_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    (tmp_path / "f.h5").write_bytes(b"")
    with pytest.raises(ImportError, match=r"pip install \"reid-core\[hdf5\]\""):
        open_features(tmp_path / "f.h5")


def test_other_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no feature file .*gone\.npz"):
        open_features(tmp_path / "gone.npz")
    (tmp_path / "f.csv").write_text("")
    with pytest.raises(ValueError, match=r"must end in one of \.parquet, \.npz, \.h5, \.hdf5"):
        open_features(tmp_path / "f.csv")
