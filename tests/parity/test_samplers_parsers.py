"""Readers and samplers against the golden file: names -> identity, camera, viewpoint; batches -> invariants."""

import re
from collections import Counter

import numpy as np
import pytest

from reid_core.data import IdentityCameraSampler, IdentitySampler, TrainingSet
from reid_core.data.datasets import MSMT17, MSMT17V2, DukeMTMC, Market1501, OccludedDuke, VehicleID, VeRi776
from tests.data.conftest import touch
from tests.parity import helpers

FILE = "samplers_parsers"
MARKET_FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
READERS = {
    "market": (Market1501, "Market-1501-v15.09.15", MARKET_FOLDERS),
    "duke": (DukeMTMC, "DukeMTMC-reID", MARKET_FOLDERS),
    "occduke": (OccludedDuke, "Occluded_Duke", MARKET_FOLDERS),
    "veri": (VeRi776, "VeRi", ("image_train", "image_query", "image_test")),
    "msmt_v2": (MSMT17V2, "MSMT17_V2", MARKET_FOLDERS),
}
DATASETS = "|".join(READERS)


def read(tmp_path, dataset, names):
    """The dataset whose three splits hold the same files."""
    reader, folder, splits = READERS[dataset]
    for split in splits:
        touch(tmp_path / folder / split, [str(name) for name in names])
    if dataset == "veri":
        for part in ("train", "test"):
            lines = [str(line) for line in helpers.load(FILE)[f"veri_viewmap_{part}"]]
            (tmp_path / folder / f"keypoint_{part}.txt").write_text("\n".join(lines) + "\n")
    return reader(str(tmp_path))


def assert_same_up_to_renaming(labels, expected):
    pairs = set(zip(labels.tolist(), expected.tolist(), strict=True))
    assert len(pairs) == len(set(labels.tolist())) == len(set(expected.tolist()))


@pytest.mark.parametrize(("project", "dataset"), helpers.cases(FILE, rf"(\w+)_({DATASETS})_raw_names"))
def test_query_and_gallery_numbers(project, dataset, tmp_path):
    golden, prefix = helpers.load(FILE), f"{project}_{dataset}_raw"
    result = read(tmp_path, dataset, golden[f"{prefix}_names"])
    for table in (result.query, result.gallery):
        assert [table.paths.relative(i).split("/")[-1] for i in range(len(table))] == golden[f"{prefix}_names"].tolist()
        columns = np.stack([table.pids, table.camids, table.viewids], axis=1)
        np.testing.assert_array_equal(columns, golden[f"{prefix}_pid_cam_view"])


@pytest.mark.parametrize(
    ("project", "dataset", "kind"), helpers.cases(FILE, rf"(\w+)_({DATASETS})_(relabel|pidbegin\d+)_names")
)
def test_training_labels(project, dataset, kind, tmp_path):
    golden, prefix = helpers.load(FILE), f"{project}_{dataset}_{kind}"
    training_set = TrainingSet([read(tmp_path, dataset, golden[f"{prefix}_names"])])
    first = int(kind.removeprefix("pidbegin")) if kind.startswith("pidbegin") else 0
    expected = golden[f"{prefix}_pid_cam_view"]
    assert [path.split("/")[-1] for path in training_set.paths] == golden[f"{prefix}_names"].tolist()
    np.testing.assert_array_equal(training_set.camids.numpy(), expected[:, 1])
    np.testing.assert_array_equal(training_set.viewids.numpy(), expected[:, 2])
    labels = training_set.targets.numpy() + first
    if golden[f"{project}_{dataset}_relabel_is_sorted_order"]:
        np.testing.assert_array_equal(labels, expected[:, 0])
    else:
        assert_same_up_to_renaming(labels, expected[:, 0])


@pytest.mark.parametrize("project", [project for (project,) in helpers.cases(FILE, r"(\w+)_msmt_v1_names")])
def test_msmt_lists(project, tmp_path):
    golden, folder = helpers.load(FILE), tmp_path / "MSMT17"
    lines = [str(line) for line in golden["msmt_v1_list_lines"]]
    for split in ("train", "test"):
        touch(folder / split, [line.split()[0] for line in lines])
    half = len(lines) // 2
    for name, part in (("train", lines[:half]), ("val", lines[half:]), ("query", lines), ("gallery", lines)):
        (folder / f"list_{name}.txt").write_text("\n".join(part) + "\n")
    dataset = MSMT17(str(tmp_path))
    expected = golden[f"{project}_msmt_v1_pid_cam_view"]
    for table in (dataset.train, dataset.query, dataset.gallery):
        names = [re.sub(r"^(train|test)/", "", table.paths.relative(i)) for i in range(len(table))]
        assert names == golden[f"{project}_msmt_v1_names"].tolist()
        columns = np.stack([table.pids, table.camids, table.viewids], axis=1)
        np.testing.assert_array_equal(columns, expected)
    np.testing.assert_array_equal(TrainingSet([dataset]).targets.numpy(), expected[:, 0])


@pytest.fixture(scope="module")
def vehicleid_root(tmp_path_factory):
    """INDEX.md's VehicleID: 13164 training vehicles of two images, 800 test vehicles of three."""
    golden, root = helpers.load(FILE), tmp_path_factory.mktemp("vehicleid")
    pids = np.random.Generator(np.random.PCG64(int(golden["vehicleid_listgen_seed"]))).permutation(26200)
    pids = np.sort(pids[: 13164 + 800])
    train = [f"{number:07d} {pid}" for number, pid in enumerate(np.repeat(pids[:13164], 2))]
    test = [f"{900000 + number:07d} {pid}" for number, pid in enumerate(np.repeat(pids[13164:], 3))]
    for name, lines in (("train", train), ("test", test)):
        first = golden[f"vehicleid_{name}_first_lines"].tolist()
        assert lines[: len(first)] == first
    folder = root / "VehicleID_V1.0"
    touch(folder / "image", [f"{line.split()[0]}.jpg" for line in train + test])
    (folder / "train_test_split").mkdir()
    for name, lines in (("train_list", train), ("test_list_800", test)):
        (folder / "train_test_split" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("project", [project for (project,) in helpers.cases(FILE, r"(\w+)_vehicleid_train_count")])
def test_vehicleid(project, vehicleid_root):
    """Split, draw and labels are the published ones; of their only viewpoint, 1, ours is 0."""
    golden, prefix = helpers.load(FILE), f"{project}_vehicleid"
    dataset = VehicleID(str(vehicleid_root), split_seed=int(golden[f"{prefix}_pythonrandom_seed"]))
    labels = TrainingSet([dataset]).targets.numpy()
    for split, numbers in (("train", labels), ("query", dataset.query.pids), ("gallery", dataset.gallery.pids)):
        table, expected = getattr(dataset, split), golden[f"{prefix}_{split}_first10_pid_cam_view"]
        assert len(table) == golden[f"{prefix}_{split}_count"]
        shown = range(len(expected))
        assert [table.paths.relative(index) for index in shown] == golden[f"{prefix}_{split}_first10_names"].tolist()
        if split == "train" and not golden[f"{prefix}_relabel_is_sorted"]:
            assert_same_up_to_renaming(numbers[shown], expected[:, 0])
        else:
            np.testing.assert_array_equal(numbers[shown], expected[:, 0])
        np.testing.assert_array_equal(table.camids[shown], expected[:, 1])
        np.testing.assert_array_equal(table.viewids[shown] + 1, expected[:, 2])
        cameras_and_views = np.stack([table.camids, table.viewids + 1], axis=1)
        np.testing.assert_array_equal(np.unique(cameras_and_views, axis=0), golden[f"{prefix}_{split}_cams_views"])


def assert_sampled_as_published(indices, labels, batch_size, num_instances):
    """INDEX.md's invariants of the flat index list of a pass."""
    batches = np.asarray(indices).reshape(-1, batch_size)
    counts = Counter(labels[labels >= 0].tolist())
    groups = batches.reshape(-1, num_instances)
    for group in groups:
        (label,) = set(labels[group].tolist())
        assert label >= 0
        assert counts[label] < num_instances or len(set(group.tolist())) == num_instances
    for batch in batches:
        assert len(set(labels[batch].tolist())) == batch_size // num_instances
    drawn = Counter(labels[groups.ravel()].tolist())
    dealt = {label: max(count, num_instances) // num_instances * num_instances for label, count in counts.items()}
    assert all(drawn[label] <= dealt[label] for label in dealt)
    return dealt, drawn


def pk_samplers(targets, camids, batch_size, num_instances, seed):
    return (
        IdentitySampler(targets, batch_size, num_instances, seed),
        IdentityCameraSampler(targets, camids, batch_size, num_instances, seed),
    )


@pytest.mark.parametrize(("project", "batch", "instances"), helpers.cases(FILE, r"ris_(\w+)_b(\d+)_k(\d+)_indices"))
def test_identity_samplers(project, batch, instances):
    golden, batch_size, num_instances = helpers.load(FILE), int(batch), int(instances)
    prefix, labels = f"ris_{project}_b{batch}_k{instances}", golden["ris_pids"]
    theirs = golden[f"{prefix}_indices"]
    assert_sampled_as_published(theirs, labels, batch_size, num_instances)  # the check itself
    assert len(theirs) == int(golden[f"{prefix}_n_batches"]) * batch_size
    for sampler in pk_samplers(labels, golden["ris_cams"], batch_size, num_instances, seed=int(golden["base"])):
        assert sampler.max_batches == int(golden[f"{prefix}_len_method"]) // batch_size
        assert len(theirs) // batch_size <= sampler.max_batches
        for epoch in range(20):
            flat = np.concatenate(list(sampler.batches(epoch, 0)))
            dealt, drawn = assert_sampled_as_published(flat, labels, batch_size, num_instances)
            assert sum(drawn[label] < dealt[label] for label in dealt) < batch_size // num_instances


@pytest.mark.parametrize(
    ("key", "batch", "instances"), helpers.cases(FILE, r"(p[lk]s_b(\d+)_k(\d+)_(?:indices|batches))")
)
def test_pseudo_labels(key, batch, instances):
    """The sampler of pseudo labels (pls: flat indices) and that of the proxies (pks: batches); -1 is skipped."""
    golden, batch_size, num_instances = helpers.load(FILE), int(batch), int(instances)
    labels, camids = golden["pls_labels"], np.arange(len(golden["pls_labels"])) % 3
    assert (labels < 0).any()
    dealt, _ = assert_sampled_as_published(golden[key].ravel(), labels, batch_size, num_instances)
    if key.startswith("pls"):
        assert sum(dealt.values()) == int(golden["pls_len"])
    for sampler in pk_samplers(np.full(len(labels), -1), camids, batch_size, num_instances, seed=0):
        sampler.set_targets(labels)
        assert sampler.max_batches == sum(dealt.values()) // batch_size
        assert golden[key].size // batch_size <= sampler.max_batches
        for epoch in range(20):
            flat = np.concatenate(list(sampler.batches(epoch, 0)))
            _, drawn = assert_sampled_as_published(flat, labels, batch_size, num_instances)
            assert sum(drawn[label] < dealt[label] for label in dealt) < batch_size // num_instances
