"""The gallery index against a dictionary; what a save leaves when it fails anywhere; files that are not whole."""

import errno
import json
import os
import shutil

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_core.retrieval import gallery, gallery_files
from reid_core.retrieval.gallery_files import GalleryIndexError
from reid_core.retrieval.gallery_index import GalleryIndex
from tests.retrieval.naive_gallery import FILTERS, NaiveGallery, assert_same, random_gallery

FACTORIES = [
    "Flat", "IVF4,Flat", "IVF4,SQ8", "IVF4,PQ4x4", "OPQ4,IVF4,PQ4x4", "PQ4x4", "OPQ4,PQ4x4", "SQ8", "PCA4,Flat",
    "PCA4,SQ8", "PCA4,IVF4,Flat", "HNSW8", "HNSW8,SQ8", "HNSW8,PQ4x4", "PCA4,HNSW8", "IVF4_HNSW8,Flat",
]  # fmt: skip
WITHOUT_LOSS = ["Flat", "IVF4,Flat", "HNSW32", "IVF4_HNSW8,Flat"]


def filled(factory="Flat", metric="cosine", seed=0, count=300, **options):
    index, images = GalleryIndex(8, factory, metric, **options), random_gallery(seed, count)
    index.add(*images)
    return index, images


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_flat_is_the_naive_search(metric, coarse, filters):
    images = random_gallery(1, 120, coarse=coarse)
    queries = random_gallery(2, 5, coarse=coarse)[0]
    index, naive = GalleryIndex(8, metric=metric), NaiveGallery(metric)
    for searcher in (index, naive):
        searcher.add(*images)
    for k in (1, 7, 200):
        assert_same(index.search(queries, k, **filters), naive.search(queries, k, **filters), metric)


def test_ties_across_the_end_of_the_list_go_by_id():
    """More equal images than candidates are fetched at first, among others that rounding cannot tell apart."""
    generator = np.random.default_rng(0)
    features = np.repeat(generator.standard_normal((40, 64), dtype=np.float32), 40, axis=0)
    features[::3] *= np.float32(1 + 2**-23)
    ids = generator.permutation(len(features))
    for metric in ("cosine", "euclidean"):
        index, naive = GalleryIndex(64, metric=metric), NaiveGallery(metric)
        for searcher in (index, naive):
            searcher.add(features, ids)
        assert_same(index.search(features[:6], 10), naive.search(features[:6], 10), metric)


def test_results_depend_neither_on_threads_nor_on_the_other_queries():
    features, ids = random_gallery(3, 4000, width=96)[:2]
    queries = random_gallery(4, 64, width=96)[0]
    one = GalleryIndex(96, threads=1)
    two = GalleryIndex(96, threads=2)
    one.add(features, ids)
    two.add(features, ids)
    expected = one.search(queries, 20)
    assert all(map(np.array_equal, two.search(queries, 20)[:2], expected[:2]))
    alone = one.search(queries[5:6], 20)
    assert np.array_equal(alone.ids[0], expected.ids[5]) and np.array_equal(alone.distances[0], expected.distances[5])


@settings(max_examples=40, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("factory", WITHOUT_LOSS)
def test_any_sequence_of_changes_keeps_to_the_dictionary(factory, data, tmp_path_factory):
    metric = data.draw(st.sampled_from(["cosine", "euclidean"]))
    index, naive = GalleryIndex(4, factory, metric, nprobe=4, ef_search=500), NaiveGallery(metric)
    index.train(random_gallery(0, 50, width=4)[0])
    seeds = st.integers(0, 10**6 - 1)  # another million each step: approximate kinds may cut ties either way
    for step in range(1, data.draw(st.integers(2, 7))):
        action = data.draw(st.sampled_from(["add", "add", "remove", "load"]))
        if action == "add":
            features, _, camids, timestamps = random_gallery(
                step * 10**6 + data.draw(seeds), data.draw(st.integers(1, 20)), width=4
            )
            free = np.setdiff1d(np.arange(60), list(naive.images))
            ids = np.random.default_rng(data.draw(seeds)).permutation(free)[: len(features)]
            count = len(ids)
            if count:
                for searcher in (index, naive):
                    searcher.add(features[:count], ids, camids[:count], timestamps[:count])
        elif action == "remove":
            ids = [identity for identity in list(naive.images) if data.draw(st.booleans())]
            index.remove(np.array(ids, dtype=np.int64))
            naive.remove(ids)
        else:
            folder = tmp_path_factory.mktemp("index")
            index.save(folder)
            index = GalleryIndex.load(folder, memory_map=data.draw(st.booleans()))
        assert len(index) == len(naive.images) and index.ids.tolist() == sorted(naive.images)
        queries = random_gallery(data.draw(seeds), 5, width=4)[0]
        filters = data.draw(st.sampled_from(FILTERS))
        assert_same(index.search(queries, 6, **filters), naive.search(queries, 6, **filters), metric)


@pytest.mark.parametrize("factory", FACTORIES)
def test_every_kind_returns_k_images_that_pass(factory, tmp_path):
    index, (features, ids, camids, timestamps) = filled(factory, nprobe=1, ef_search=1, count=600)
    queries = random_gallery(9, 5)[0]
    index.remove(ids[:250])
    index.add(features[:50], ids[:50], camids[:50], timestamps[:50])
    index.save(tmp_path)
    mapped = GalleryIndex.load(tmp_path)
    naive = NaiveGallery()
    kept = np.r_[0:50, 250:600]
    naive.add(features[kept], ids[kept], camids[kept], timestamps[kept])
    for filters in FILTERS:
        found, expected = index.search(queries, 30, **filters), naive.search(queries, 400, **filters)
        for row, passing in zip(found.ids, expected[1], strict=True):
            passing = [identity for identity in passing if identity >= 0]
            hits = row[row >= 0]
            assert len(hits) == min(30, len(passing)) and len(set(hits)) == len(hits) and set(hits) <= set(passing)
        assert np.array_equal(found.distances, np.sort(found.distances, axis=1))
        again = mapped.search(queries, 30, **filters)
        assert all(np.array_equal(x, y, equal_nan=True) for x, y in zip(found, again, strict=True))
    position = {identity: place for place, identity in enumerate(ids)}
    for identity, camid, timestamp in zip(found.ids[0], found.camids[0], found.timestamps[0], strict=True):
        if identity >= 0:
            assert (camid, timestamp) == (camids[position[identity]], timestamps[position[identity]])


@pytest.mark.parametrize("factory", ["IVF16,Flat", "HNSW16", "SQ8", "IVF16,SQ8"])
def test_approximate_kinds_find_most_of_the_nearest(factory):
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((50, 32), dtype=np.float32)
    features = np.repeat(centres, 40, axis=0) + 0.3 * generator.standard_normal((2000, 32), dtype=np.float32)
    approximate, exact = GalleryIndex(32, factory), GalleryIndex(32)
    for index in (approximate, exact):
        index.add(features, np.arange(2000), camids=np.arange(2000) % 7)
    for filters in ({}, {"exclude_camids": [3]}, {"only_camids": [5]}):
        found, expected = (index.search(centres, 5, **filters).ids for index in (approximate, exact))
        shared = np.mean([len(set(x) & set(y)) / 5 for x, y in zip(found, expected, strict=True)])
        assert shared > 0.8


@pytest.mark.parametrize(("factory", "key"), [("IVF64,Flat", "nprobe"), ("HNSW4", "ef_search")])
def test_how_hard_it_looks_can_be_set_at_any_time_and_is_kept(factory, key, tmp_path):
    generator = np.random.default_rng(0)
    features = generator.standard_normal((3000, 16), dtype=np.float32)
    queries = generator.standard_normal((20, 16), dtype=np.float32)
    index, exact = GalleryIndex(16, factory, **{key: 1}), GalleryIndex(16)
    for gallery_index in (index, exact):
        gallery_index.add(features, np.arange(3000))
    expected = exact.search(queries, 1).ids
    index.save(tmp_path)
    loaded, shares = GalleryIndex.load(tmp_path), []
    for effort in (1, 3000):
        setattr(loaded, key, effort)
        assert getattr(loaded, key) == effort
        shares.append((loaded.search(queries, 1).ids == expected).mean())
    assert shares[0] < 0.8 and shares[1] == 1
    loaded.save(tmp_path)
    assert getattr(GalleryIndex.load(tmp_path), key) == 3000
    with pytest.raises(ValueError, match="at least 1"):
        setattr(loaded, key, 0)
    assert getattr(loaded, key) == 3000


def test_removed_rows_leave_memory_where_faiss_can_let_them_go():
    sizes = {}
    for factory in ("Flat", "PQ4x4", "SQ8", "IVF4,Flat", "PCA4,Flat", "HNSW8"):
        index, (_, ids, *_) = filled(factory)
        index.remove(ids[:200])
        assert len(index) == 100
        sizes[factory] = index._backend.stored
    assert sizes.pop("HNSW8") == 300
    assert set(sizes.values()) == {100}


def test_an_empty_gallery_finds_nothing():
    found = GalleryIndex(8).search(np.ones((2, 8), dtype=np.float32), 3)
    assert (found.ids == -1).all() and np.isinf(found.distances).all() and np.isnan(found.timestamps).all()


def test_tensors_of_any_precision_are_taken():
    index = GalleryIndex(8)
    features = torch.randn(10, 8, dtype=torch.float64, requires_grad=True)
    index.add(features, torch.arange(10), camids=torch.zeros(10, dtype=torch.int32))
    assert index.search(features.half(), 1).ids[:, 0].tolist() == list(range(10))


def test_training_takes_a_sample_and_comes_before_the_images():
    index = GalleryIndex(8, "IVF4,Flat")
    assert not index.is_trained and GalleryIndex(8).is_trained
    index.train(random_gallery(0, 1000)[0])
    assert index.is_trained and len(index) == 0
    index.add(*random_gallery(1, 3))
    with pytest.raises(ValueError, match="3 images already"):
        index.train(random_gallery(0, 1000)[0])


@pytest.mark.parametrize(
    ("factory", "needed"),
    [("IVF64,Flat", 64), ("PQ4", 256), ("IVF4,PQ4x4", 16), ("OPQ4,IVF4,PQ4x4", 256), ("HNSW8,PQ4", 256)],
)
def test_too_few_to_train_on_is_refused_and_nothing_is_added(factory, needed):
    index = GalleryIndex(8, factory)
    with pytest.raises(ValueError, match=f"needs at least {needed} features"):
        index.add(*random_gallery(0, needed - 1))
    assert len(index) == 0
    index.add(*random_gallery(0, needed))
    assert len(index) == needed


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"features": np.full((2, 8), np.nan)}, "NaN or infinite"),
        ({"features": np.array([[1.0] * 8, [np.inf] * 8])}, "NaN or infinite"),
        ({"features": np.array([[1.0] * 8, [0.0] * 8])}, "all zero"),
        ({"features": np.ones((2, 9))}, "width 9, the index 8"),
        ({"features": np.ones((2, 8), dtype=int)}, "floating-point"),
        ({"ids": [1, 2, 3]}, "one entry for each of the 2"),
        ({"ids": [7, 7]}, "twice in one call: 7"),
        ({"ids": [-2, 7]}, "at least 0"),
        ({"ids": [0.5, 1.0]}, "whole numbers"),
        ({"ids": np.array([2**63, 1], dtype=np.uint64)}, "int64"),
        ({"ids": [100, 5]}, "1 ids are in the index already: 5"),
        ({"camids": [0]}, "camids must have one entry"),
        ({"camids": [0, -2]}, "-1 for unknown"),
        ({"timestamps": [0.0, np.inf]}, "infinity"),
    ],
)
def test_bad_images_are_refused_and_nothing_changes(change, text):
    index, _ = GalleryIndex(8), random_gallery
    index.add(np.eye(8), np.arange(8))
    arguments = {"features": np.ones((2, 8)), "ids": [100, 101], **change}
    with pytest.raises(ValueError, match=text):
        index.add(**arguments)
    assert index.ids.tolist() == list(range(8))
    assert index.search(np.eye(8), 1).ids[:, 0].tolist() == list(range(8))


def test_unknown_ids_are_not_removed_nor_any_other():
    index, (_, ids, *_) = filled()
    with pytest.raises(ValueError, match="1 ids are not in the index: 5000"):
        index.remove([int(ids[0]), 5000])
    with pytest.raises(ValueError, match="twice"):
        index.remove([int(ids[0])] * 2)
    assert len(index) == 300


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"k": 0}, "k must be"),
        ({"k": 1.5}, "k must be"),
        ({"features": np.full((1, 8), np.nan)}, "query features hold NaN"),
        ({"features": np.ones((1, 7))}, "width 7"),
        ({"camids": [1, 2]}, "one entry for each of the 1 queries"),
        ({"only_camids": [-1]}, "must not be negative"),
        ({"exclude_camids": [-1]}, "must not be negative"),
        ({"time_range": (3, 2)}, "first <= last"),
        ({"time_range": (float("nan"), 2)}, "time_range"),
    ],
)
def test_bad_searches_are_refused(change, text):
    index, _ = filled()
    with pytest.raises(ValueError, match=text):
        index.search(**{"features": np.ones((1, 8)), "k": 3, **change})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"factory": "Falt"}, "'Falt'"),
        ({"factory": "LSH"}, "IndexLSH, which cannot be filtered"),
        ({"factory": "IVF4,PQ4x4fs"}, "FastScan, which cannot be filtered"),
        ({"factory": "IVF4,Flat,RFlat"}, "IndexRefine"),
        ({"metric": "manhattan"}, "cosine, euclidean"),
        ({"nprobe": 0}, "at least 1"),
        ({"device": "tpu"}, "'tpu'"),
    ],
)
def test_bad_settings_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        GalleryIndex(8, **arguments)


@pytest.mark.skipif(faiss.get_num_gpus() > 0, reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="sees no GPU"):
        GalleryIndex(8, device="cuda")


@pytest.mark.skipif(faiss.get_num_gpus() == 0, reason="faiss sees no GPU")
@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_the_gpu_finds_what_the_cpu_finds(filters):
    images, queries = random_gallery(1, 5000), random_gallery(2, 5)[0]
    found = []
    for device in ("cpu", "cuda"):
        index = GalleryIndex(8, device=device)
        index.add(*images)
        found.append(index.search(queries, 50, **filters))
    assert all(np.array_equal(x, y, equal_nan=True) for x, y in zip(*found, strict=True))


def test_faiss_threads_are_those_of_before_after_a_call():
    faiss.omp_set_num_threads(1)
    index, _ = filled(threads=2)
    index.search(np.ones((1, 8)), 1)
    assert faiss.omp_get_max_threads() == 1


# Saving and loading


@pytest.mark.parametrize("memory_map", [False, True])
def test_a_loaded_index_can_be_changed(memory_map, tmp_path):
    for factory in ("Flat", "IVF4,Flat", "HNSW8", "PQ4x4"):
        folder = tmp_path / factory
        index, (features, ids, *_) = filled(factory)
        index.save(folder)
        loaded = GalleryIndex.load(folder, memory_map)
        loaded.remove(ids[:100])
        loaded.add(features[:3], [5000, 5001, 5002])
        assert len(loaded) == 203 and {5000, 5001, 5002} <= set(loaded.search(features[:3], 203).ids[0])
        loaded.save(folder)
        assert len(GalleryIndex.load(folder)) == 203


def test_a_mapped_index_is_not_read_into_memory(tmp_path):
    for factory in ("Flat", "IVF4,Flat"):
        index = GalleryIndex(256, factory)
        index.add(np.random.default_rng(0).standard_normal((20000, 256), dtype=np.float32), np.arange(20000))
        index.save(tmp_path / factory)
        path = next((tmp_path / factory).glob("index-*.bin"))
        GalleryIndex.load(tmp_path / factory, verify=False)
        loaded = GalleryIndex.load(tmp_path / factory, verify=False)
        with open("/proc/self/maps") as maps:
            assert any(path.name in line for line in maps)
        assert len(loaded) == 20000


@pytest.mark.parametrize("factory", ["Flat", "IVF4,Flat", "HNSW8"])
def test_a_mapped_index_can_be_saved_elsewhere_and_in_place(factory, tmp_path):
    index, (features, *_) = filled(factory)
    index.save(tmp_path / "a")
    expected = index.search(features[:5], 7).ids
    for folder in ("b", "a"):
        GalleryIndex.load(tmp_path / "a").save(tmp_path / folder)
    shutil.rmtree(tmp_path / "a")
    assert np.array_equal(GalleryIndex.load(tmp_path / "b").search(features[:5], 7).ids, expected)


def test_a_mapped_index_outlives_a_later_save(tmp_path):
    index, images = filled()
    index.save(tmp_path)
    mapped = GalleryIndex.load(tmp_path)
    expected = mapped.search(images[0][:5], 7)
    index.remove(images[1][:200])
    index.save(tmp_path)
    assert np.array_equal(mapped.search(images[0][:5], 7).ids, expected.ids)
    with pytest.raises(GalleryIndexError, match="replaced by a later save"):
        mapped.remove(images[1][:1])


class FailingFile:
    """A file whose n-th write fails."""

    def __init__(self, file, countdown):
        self._file, self._countdown = file, countdown

    def write(self, data):
        self._countdown[0] -= 1
        if self._countdown[0] < 0:
            raise self._countdown[1]
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)


class Killed(BaseException):
    """Stands for the end of the process: what runs afterwards is what the next process sees."""


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), Killed()], ids=["disk", "kill"])
@pytest.mark.parametrize("factory", ["Flat", "IVF4,Flat"])
def test_a_save_that_fails_at_any_write_leaves_the_previous_version(failure, factory, tmp_path, monkeypatch):
    folder = tmp_path / "index"
    index, (features, *_) = filled(factory, count=60)
    index.save(folder)
    before = content(folder)
    changed, _ = filled(factory, count=60, seed=5)
    real = os.fdopen
    for writes in range(1000):
        countdown = [writes, failure]
        monkeypatch.setattr(os, "fdopen", lambda *options, c=countdown: _Opened(real(*options), c))
        try:
            changed.save(folder)
            break
        except (GalleryIndexError, Killed) as error:
            if isinstance(failure, OSError):
                assert "could not be written: No space left" in str(error)
        monkeypatch.setattr(os, "fdopen", real)
        assert content(folder) == before
        assert np.array_equal(GalleryIndex.load(folder).search(features[:1], 5).ids, index.search(features[:1], 5).ids)
    assert writes > 3, "index, rows and manifest are written, each with at least one write"
    assert GalleryIndex.load(folder).ids.tolist() == changed.ids.tolist()


class _Opened:
    def __init__(self, file, countdown):
        self._file, self._countdown = file, countdown

    def __enter__(self):
        return FailingFile(self._file.__enter__(), self._countdown)

    def __exit__(self, *failure):
        return self._file.__exit__(*failure)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_save_that_fails_at_any_rename_leaves_one_complete_version(step, tmp_path, monkeypatch):
    index, _ = filled(count=60)
    changed, _ = filled(count=60, seed=5)
    real = getattr(os, step)
    versions = set()
    for calls in range(20):
        folder = tmp_path / str(calls)
        index.save(folder)
        left = [calls]

        def fail(*arguments, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(os, step, fail)
            try:
                changed.save(folder)
                complete = True
            except Killed:
                complete = False
        found = GalleryIndex.load(folder).ids.tolist()
        assert found in (index.ids.tolist(), changed.ids.tolist())
        versions.add(found == changed.ids.tolist())
        index.save(folder)
        assert len(content(folder)) == 3, "what the interrupted save left is removed by the next"
        if complete:
            break
    assert complete and versions == {False, True}


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    (tmp_path / "my-notes.bin").write_bytes(b"mine")
    index, _ = filled()
    index.save(tmp_path)
    index.save(tmp_path)
    assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == ["index", "manifest.json", "my", "rows"]


@pytest.mark.parametrize("kind", ["index", "rows"])
@pytest.mark.parametrize("share", [0, 0.3, 0.999])
def test_truncated_files_are_refused_before_faiss_sees_them(kind, share, tmp_path, monkeypatch):
    index, _ = filled()
    index.save(tmp_path)
    path = next(tmp_path.glob(f"{kind}-*.bin"))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    monkeypatch.setattr(faiss, "read_index", lambda *_: pytest.fail("faiss read a damaged file"))
    for verify in (True, False):
        with pytest.raises(GalleryIndexError, match=rf"{path.name} was refused: it has \d+ bytes"):
            GalleryIndex.load(tmp_path, verify=verify)


@pytest.mark.parametrize("kind", ["index", "rows"])
def test_flipped_bits_are_refused_before_faiss_sees_them(kind, tmp_path, monkeypatch):
    index, _ = filled()
    index.save(tmp_path)
    monkeypatch.setattr(faiss, "read_index", lambda *_: pytest.fail("faiss read a damaged file"))
    path = next(tmp_path.glob(f"{kind}-*.bin"))
    whole = path.read_bytes()
    for place in np.linspace(0, len(whole) - 1, 9).astype(int):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(GalleryIndexError, match="SHA-256 differs"):
            GalleryIndex.load(tmp_path)


def test_missing_and_foreign_folders_are_refused(tmp_path):
    with pytest.raises(GalleryIndexError, match="There is no gallery index"):
        GalleryIndex.load(tmp_path / "nowhere")
    index, _ = filled()
    index.save(tmp_path / "a")
    next((tmp_path / "a").glob("rows-*.bin")).unlink()
    with pytest.raises(GalleryIndexError, match="is missing"):
        GalleryIndex.load(tmp_path / "a")
    for text in ("", "{", "[]", "{}", '{"format": 1}', '{"format": "reid-core gallery index 1", "files": 3}'):
        (tmp_path / "a" / gallery_files.MANIFEST).write_text(text)
        with pytest.raises(GalleryIndexError, match="manifest"):
            GalleryIndex.load(tmp_path / "a")


@pytest.mark.parametrize(
    "change",
    [{"width": 9}, {"factory": "SQ8"}, {"factory": "nonsense"}, {"labels": 4}, {"metric": 3}, {"nprobe": None}],
)
def test_a_manifest_that_does_not_fit_its_files_is_refused(change, tmp_path):
    index, _ = filled()
    index.save(tmp_path)
    path = tmp_path / gallery_files.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(GalleryIndexError, match="cannot be read"):
        GalleryIndex.load(tmp_path)


def test_files_of_two_indexes_do_not_mix(tmp_path):
    for name, count in (("a", 50), ("b", 60)):
        filled(count=count)[0].save(tmp_path / name)
    source, target = (next((tmp_path / name).glob("index-*.bin")) for name in "ab")
    shutil.copy(source, target)
    with pytest.raises(GalleryIndexError, match="refused"):
        GalleryIndex.load(tmp_path / "b")


def test_the_error_names_only_some_of_many_ids():
    assert gallery.some(np.arange(9)) == "0, 1, 2, 3, 4, ..." and gallery.some(np.arange(2)) == "0, 1"
