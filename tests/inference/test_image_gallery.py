"""A gallery with names: what a search shows, what survives saving, and what is refused."""

import numpy as np
import pytest
from filelock import Timeout

from reid_core.data.feature_files import FeatureColumns
from reid_core.inference.image_gallery import IMAGES, ImageGallery
from reid_core.retrieval import GalleryIndex
from reid_core.retrieval.gallery_files import GalleryIndexError


def table(count=20, seed=0, model="m1", **columns):
    features = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    return FeatureColumns({**columns, "feature": features}, {"model": model})


def named(count=20, seed=0, prefix="a", **more):
    cameras = [("gate", "door", "")[number % 3] for number in range(count)]
    paths = [f"{prefix}/{number}.jpg" for number in range(count)]
    return table(count, seed, path=paths, pid=np.arange(count) // 2, camid=cameras, **more)


def gallery_of(*tables, factory="Flat"):
    gallery = ImageGallery(GalleryIndex(8, factory))
    for some in tables:
        gallery.add(some)
    return gallery


def plain_search(features, queries, allowed):
    """(distance, number) of the allowed rows, nearest first."""
    unit = [row / np.linalg.norm(row) for row in features.astype(np.float64)]
    found = []
    for query in queries.astype(np.float64):
        query = query / np.linalg.norm(query)
        found.append(sorted((1 - float(row @ query), number) for number, row in enumerate(unit) if allowed(number)))
    return found


def test_hits_carry_what_is_known_and_survive_saving(tmp_path):
    source, queries = named(), table(3, seed=5).read(["feature"])["feature"]
    gallery = gallery_of(source)
    gallery.save(tmp_path / "g")
    loaded = ImageGallery.load(tmp_path / "g")
    expected = plain_search(source.read(["feature"])["feature"], queries, lambda number: True)
    for made in (gallery, loaded):
        hits = made.search(queries, 4)
        for row, nearest in zip(hits, expected, strict=True):
            assert [hit["id"] for hit in row] == [number for _, number in nearest[:4]]
            for rank, (hit, (distance, number)) in enumerate(zip(row, nearest, strict=False), start=1):
                assert hit["distance"] == pytest.approx(distance, abs=1e-6)
                assert hit == {"rank": rank, "distance": hit["distance"], "id": number, "path": f"a/{number}.jpg",
                               "pid": number // 2, "camid": ("gate", "door", "")[number % 3]}  # fmt: skip
    assert len(GalleryIndex.load(tmp_path / "g")) == 20
    assert loaded.model == "m1" and loaded.num_identities() == 10
    assert loaded.camera_counts() == {"door": 7, "gate": 7}


def test_cameras_are_filtered_by_name(tmp_path):
    source = named()
    gallery, queries = gallery_of(source), source.read(["feature"])["feature"][:3]
    camera = ("gate", "door", "")

    def ids(**filters):
        return [[hit["id"] for hit in row] for row in gallery.search(queries, 20, **filters)]

    def plain(allowed):
        return [
            [number for _, number in row] for row in plain_search(source.read(["feature"])["feature"], queries, allowed)
        ]

    assert ids(only_cameras=["gate"]) == plain(lambda n: camera[n % 3] == "gate")
    assert ids(exclude_cameras=["gate"]) == plain(lambda n: camera[n % 3] != "gate")
    own = ids(camids=["door", "", "elsewhere"])
    assert own[0] == plain(lambda n: camera[n % 3] != "door")[0]
    assert own[1:] == plain(lambda n: True)[1:]
    with pytest.raises(ValueError, match="has no camera 'yard'; it has door, gate"):
        gallery.search(queries, 3, only_cameras=["yard"])


def test_numbers_and_times():
    gallery = gallery_of(table(6, camid=np.array([3, 3, 5, 5, -1, 12]), timestamp=np.array([0, 1, 2, 3, 4, np.nan])))
    assert gallery.camera_counts() == {"3": 2, "5": 2, "12": 1}
    queries = table(1, seed=9).read(["feature"])["feature"]
    assert {hit["id"] for hit in gallery.search(queries, 9, only_cameras=["3", "12"])[0]} == {0, 1, 5}
    found = gallery.search(queries, 9, time_range=(1, 3))[0]
    assert {hit["timestamp"] for hit in found} == {1.0, 2.0, 3.0}
    assert "timestamp" not in next(hit for hit in gallery.search(queries, 9)[0] if hit["id"] == 5)


def test_adding_and_removing(tmp_path):
    gallery = gallery_of(named())
    gallery.save(tmp_path / "g")
    gallery = ImageGallery.load(tmp_path / "g")
    gallery.remove(gallery.ids_of_paths(["a/3.jpg", "a/19.jpg"]))
    gallery.add(named(5, seed=1, prefix="b"))
    gallery.save(tmp_path / "g")
    loaded = ImageGallery.load(tmp_path / "g")
    assert loaded.index.ids.tolist() == [*range(3), *range(4, 24)]
    shown = {hit["id"]: hit["path"] for hit in loaded.search(np.ones((1, 8), np.float32), 99)[0]}
    assert shown == {n: f"a/{n}.jpg" for n in range(19) if n != 3} | {19 + n: f"b/{n}.jpg" for n in range(5)}
    with pytest.raises(ValueError, match=r"2 paths are in the gallery already: b/0\.jpg, b/1\.jpg"):
        loaded.add(named(2, seed=2, prefix="b"))
    with pytest.raises(ValueError, match=r"1 paths are twice in the file: x\.jpg"):
        loaded.add(table(2, path=["x.jpg", "x.jpg"]))
    with pytest.raises(ValueError, match=r"1 paths are not in the gallery: a/3\.jpg"):
        loaded.ids_of_paths(["a/3.jpg", "a/4.jpg"])
    with pytest.raises(ValueError, match="1 ids are not in the index: 3"):
        loaded.remove([3])


def test_ids_of_the_file_and_columns_that_differ():
    gallery = gallery_of(table(2, id=np.array([70, 7]), pid=np.array([1, 2])), table(2, seed=1, pid=["anna", ""]))
    assert gallery.index.ids.tolist() == [7, 70, 71, 72]
    hits = {hit["id"]: hit.get("pid") for hit in gallery.search(np.ones((1, 8), np.float32), 9)[0]}
    assert hits == {7: "2", 70: "1", 71: "anna", 72: ""}
    assert gallery.num_identities() == 3
    with pytest.raises(ValueError, match="cameras are numbers, the file's have names: gate"):
        gallery_of(table(2, camid=np.array([1, 2]))).add(table(2, seed=1, camid=["gate", "gate"]))


def test_an_interrupted_save_leaves_a_gallery_that_loads(tmp_path, monkeypatch):
    gallery_of(named()).save(tmp_path / "g")
    for change, what in (("add", named(5, seed=1, prefix="b")), ("remove", [0, 1])):
        gallery = ImageGallery.load(tmp_path / "g")
        getattr(gallery, change)(what)
        with monkeypatch.context() as patch:
            patch.setattr(GalleryIndex, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                gallery.save(tmp_path / "g")
        assert len(ImageGallery.load(tmp_path / "g").search(np.ones((1, 8), np.float32), 99)[0]) == 20


def test_an_index_that_is_trained_sees_all_of_the_table():
    source = named(600)
    gallery = gallery_of(source, factory="IVF4,Flat")
    queries = source.read(["feature"])["feature"][::60]
    assert [row[0]["id"] for row in gallery.search(queries, 1)] == list(range(0, 600, 60))


def test_another_models_features_are_warned_of(caplog, monkeypatch):
    monkeypatch.setattr(__import__("logging").getLogger("reid"), "propagate", True)
    gallery = gallery_of(named())
    gallery.add(named(3, seed=1, prefix="b"))
    gallery.check_model("")
    assert not caplog.records
    gallery.add(named(3, seed=2, prefix="c", model="m2"))
    assert "of another model (m2...) than the gallery's (m1...)" in caplog.text


def test_folders_that_hold_no_gallery(tmp_path):
    with pytest.raises(GalleryIndexError, match="no gallery index"):
        ImageGallery.load(tmp_path)
    gallery_of(named()).save(tmp_path / "g")
    (tmp_path / "g" / IMAGES).write_bytes(b"PAR1")
    with pytest.raises(GalleryIndexError, match=f"{IMAGES} is missing or damaged"):
        ImageGallery.load(tmp_path / "g")
    gallery_of(named(5)).save(tmp_path / "h")
    gallery_of(named()).save(tmp_path / "k")
    (tmp_path / "k" / IMAGES).write_bytes((tmp_path / "h" / IMAGES).read_bytes())
    with pytest.raises(GalleryIndexError, match="it lacks images of the index"):
        ImageGallery.load(tmp_path / "k")


def test_there_is_one_writer(tmp_path):
    with ImageGallery.lock(tmp_path / "g"), pytest.raises(Timeout), ImageGallery.lock(tmp_path / "g"):
        pass
    with ImageGallery.lock(tmp_path / "g") as held:
        assert held.is_locked
