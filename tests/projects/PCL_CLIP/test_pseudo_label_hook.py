"""What happens around an epoch: labels, sampler, memories, measures; and where clustering gives nothing to train on."""

import csv
import math
import shutil
from collections import Counter

import pytest
import torch
from torch.nn import functional as F

from reid_core.config import ConfigError
from reid_core.data.loader import build_test_loader
from reid_core.engine.encoding import encode
from reid_core.engine.hooks import Hook
from reid_core.engine.launch import main
from reid_core.modeling.checkpoint import list_checkpoints
from reid_core.utils.writers import read_json_lines
from tests.projects.runs import end_of, train

ALL = {"PCL__PROXY__INTRA_WEIGHT": 1.0, "PCL__PROXY__OFFLINE_WEIGHT": 0.5, "PCL__PROXY__ONLINE_WEIGHT": 0.25}


@pytest.fixture
def given_labels(monkeypatch):
    """given_labels([...], [...]) -> clustering gives these labels, one list a call, the last one from then on."""

    def give(*lists):
        left = [torch.tensor(labels) for labels in lists]

        def labels_of(features, *arguments, **options):
            assert len(features) == len(left[0])
            return (left.pop(0) if len(left) > 1 else left[0]).clone().numpy()

        monkeypatch.setattr("projects.PCL_CLIP.pseudo_label_hook.pseudo_labels", labels_of)

    return give


def sorted_clusters(sizes, outliers=0):
    """Labels of the training images in their order (sorted by file name): 0 so often, 1 so often ..."""
    return [label for label, size in enumerate(sizes) for _ in range(size)] + [-1] * outliers


class Watch(Hook):
    """Notes the labels, the batches and the memories."""

    def __init__(self):
        self.labels, self.batches, self.starts, self.steps = [], [], [], []

    def before_epoch(self):
        trainer = self.trainer
        (hook,) = (hook for hook, _ in trainer.hooks if hook.name == "PseudoLabelHook")
        self.labels.append(hook.clusters.clone())
        model = trainer.model
        features = encode(model, build_test_loader(trainer.cfg, trainer.training_set.images))
        self.starts.append((F.normalize(features, dim=1), self._memories()))

    def after_step(self):
        self.batches.append(self.trainer.batch)
        self.steps.append(self._memories())

    def _memories(self):
        model = self.trainer.model
        return model.clusters.prototypes.clone(), None if model.proxies is None else model.proxies.prototypes.clone()


def test_labels_reach_batches_and_memories(clusters_trainer):
    trainer, watch = clusters_trainer(SOLVER__BASE_LR=1e-9, **ALL), Watch()
    train(trainer, watch)
    data = trainer.training_set
    known = data.known_labels
    for labels, (features, (clusters, proxies)) in zip(watch.labels, watch.starts, strict=True):
        assert (labels[known == 7] == -1).all() and (labels < 0).sum() == 2, "two images are too few for a cluster"
        assert labels[known < 7].tolist() == known[known < 7].tolist()
        for label in range(7):
            mean = F.normalize(features[labels == label].mean(dim=0), dim=0)
            torch.testing.assert_close(clusters[label], mean)
        pairs = sorted({*zip(labels.tolist(), data.camids.tolist(), strict=True)} - {(-1, 2)})
        assert len(pairs) == len(proxies) == 13, "identity 8 has one camera, camera 3 no proxy"
        for proxy, (label, camera) in zip(proxies, pairs, strict=True):
            mean = F.normalize(features[(labels == label) & (data.camids == camera)].mean(dim=0), dim=0)
            torch.testing.assert_close(proxy, mean)
    assert len(watch.batches) == 6
    for batch in watch.batches:
        assert torch.equal(batch["targets"], watch.labels[0][batch["indices"]]) and (batch["targets"] >= 0).all()
        counted = Counter(zip(batch["targets"].tolist(), batch["camids"].tolist(), strict=True))
        assert sorted(counted.values()) == [4, 4], "sampled by proxy"
    for old, new in zip(watch.steps[:2], watch.steps[1:3], strict=True):
        assert (old[1] != new[1]).any(dim=1).sum() == 2


def test_cameras_of_joined_sets_are_kept_apart(
    given_labels, clusters_trainer, clusters_market, unlabelled_folder, tmp_path
):
    """The same images as two sets, whose cameras have equal numbers: a cluster has proxies of each set's own."""
    for root in (clusters_market, unlabelled_folder):
        shutil.copytree(root, tmp_path / "both", dirs_exist_ok=True)
    given_labels(sorted_clusters([4] * 7, 2) * 2)
    watch = Watch()
    trainer = clusters_trainer(
        DATASETS__ROOT=tmp_path / "both",
        DATASETS__TRAIN=["Market1501", "ImageFolder:street"],
        DATASETS__OWN_DATA__PATTERN="_c(?P<camid>[0-9])",
        DATASETS__OWN_DATA__UNLABELLED=True,
        SOLVER__BASE_LR=1e-9,
        **ALL,
    )
    train(trainer, watch)
    camids = trainer.training_set.camids
    assert camids[30:].tolist() == (camids[:30] + 3).tolist(), "cameras 0 to 2 and 3 to 5"
    features, (_, proxies) = watch.starts[0]
    pairs = sorted({*zip(watch.labels[0].tolist(), camids.tolist(), strict=True)} - {(-1, 2), (-1, 5)})
    assert len(pairs) == len(proxies) == 26
    for proxy, (label, camera) in zip(proxies, pairs, strict=True):
        mean = F.normalize(features[(watch.labels[0] == label) & (camids == camera)].mean(dim=0), dim=0)
        torch.testing.assert_close(proxy, mean)
    assert all(torch.equal(batch["camids"], camids[batch["indices"]]) for batch in watch.batches)


def test_clusters_alone_are_sampled_by_cluster(clusters_trainer):
    watch = Watch()
    train(clusters_trainer(), watch)
    for batch in watch.batches:
        assert sorted(Counter(batch["targets"].tolist()).values()) == [4, 4]
    assert watch.steps[0][1] is None


def test_every_epoch_has_a_row_of_measures(clusters_trainer, tmp_path):
    train(clusters_trainer(LOG__PERIOD=2, SOLVER__BASE_LR=1e-4))
    rows = [row for row in read_json_lines(tmp_path / "run" / "metrics.jsonl") if "clusters" in row]
    assert [(row["epoch"], row["iteration"]) for row in rows] == [(1, 3), (2, 6)]
    for row in rows:
        assert (row["clusters"], row["outliers"]) == (7, 2)
        assert row["pairwise_F"] == pytest.approx(100 * 2 * 42 / (2 * 42 + 0 + 1)), "the pair left out was missed"
        assert 90 < row["NMI"] < 100 and 90 < row["ARI"] < 100


def test_the_clusters_of_the_finished_model_are_written(clusters_trainer, tmp_path):
    trainer = train(clusters_trainer(SOLVER__BASE_LR=1e-4))
    with (tmp_path / "run" / "clusters.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == list(trainer.training_set.paths)
    assert [int(row["camid"]) for row in rows] == trainer.training_set.camids.tolist()
    assert [int(row["cluster"]) for row in rows] == sorted_clusters([4] * 7, 2)


@pytest.mark.parametrize("centred", [False, True])
def test_cameras_are_centred_on_request(clusters_trainer, monkeypatch, centred):
    seen = []
    monkeypatch.setattr(
        "projects.PCL_CLIP.pseudo_label_hook.pseudo_labels",
        lambda features, *arguments, **options: seen.append(features) or sorted_clusters_array(),
    )
    trainer = train(clusters_trainer(SOLVER__MAX_EPOCHS=1, PCL__CLUSTERING__CENTER_CAMERAS=centred))
    means = [seen[0][trainer.training_set.camids == camera].mean(dim=0).norm() for camera in range(3)]
    assert all((mean < 1e-5) == centred for mean in means)


def sorted_clusters_array():
    return torch.tensor(sorted_clusters([4] * 7, 2)).numpy()


UNUSABLE = {
    "noise": ([-1] * 30, "0 clusters, 30 of 30 images in none", "No image is in a cluster", "raise"),
    "one": ([0] * 29 + [-1], "1 cluster, 1 of 30 images in none", "All that are in a cluster are in one", "lower"),
    "few": (sorted_clusters([10] * 3), "3 clusters, 0 of 30", "needs 4 identities, the labels have 3", "lower"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_two_unusable_epochs_in_a_row_end_the_run(given_labels, clusters_config, clusters_run, tmp_path, capsys, name):
    labels, *said, advice = UNUSABLE[name]
    given_labels(labels)
    words = clusters_run(DATALOADER__NUM_INSTANCES=2, SOLVER__MAX_EPOCHS=5)
    assert main(["--config-file", clusters_config, *words]) == 2
    text = " ".join(capsys.readouterr().out.split())
    assert "warning: Epoch 1 has no usable clusters" in text and "It is skipped (1 so far)." in text
    assert "error: Epoch 2 has no usable clusters" in text and "It is the second epoch in a row: the run ends." in text
    for warning in (text[text.index("warning: Epoch 1") :], text[text.index("error: Epoch 2") :]):
        assert all(words in warning for words in (*said, f"To find others, {advice} PCL.CLUSTERING.EPS (now 0.5)"))
    (saved,) = list_checkpoints(tmp_path / "run")  # of the skipped epoch, whole
    assert saved.name == "checkpoint_00000000.pt" and end_of(tmp_path / "run")["trainer"]["epoch"] == 1
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]
    (row,) = (row for row in read_json_lines(tmp_path / "run" / "metrics.jsonl") if "skipped_epochs" in row)
    assert (row["skipped_epochs"], row["clusters"], row["epoch"]) == (1, max(labels) + 1, 1)


@pytest.mark.parametrize(("key", "value"), [("EPS", 1e-4), ("MIN_SAMPLES", 31)])
def test_real_clustering_that_finds_nothing(clusters_config, clusters_run, capsys, key, value):
    assert main(["--config-file", clusters_config, *clusters_run(**{f"PCL__CLUSTERING__{key}": value})]) == 2
    assert "0 clusters, 30 of 30 images in none" in capsys.readouterr().out


def test_a_skipped_epoch_is_counted_and_the_run_goes_on(given_labels, clusters_trainer, tmp_path):
    good = sorted_clusters([4] * 7, 2)
    given_labels(good, [-1] * 30, good, [-1] * 30, good)
    trainer = train(clusters_trainer(SOLVER__MAX_EPOCHS=5, TEST__PERIOD=1))
    assert (trainer.epoch, trainer.global_iteration) == (0, 9)
    rows = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    assert [row.get("skipped_epochs") for row in rows if "clusters" in row] == [None, 1, None, 2, None]
    assert len({row["mAP"] for row in rows if row.get("epoch") in (1, 2) and "mAP" in row}) == 1


def test_a_restart_after_the_end_says_the_same_until_a_setting_changes(
    given_labels, clusters_config, clusters_run, tmp_path, capsys
):
    given_labels([-1] * 30)
    words = clusters_run(SOLVER__MAX_EPOCHS=3)
    assert main(["--config-file", clusters_config, *words]) == 2
    assert main(["--config-file", clusters_config, "--resume", *words]) == 2
    given_labels(sorted_clusters([4] * 7, 2))
    capsys.readouterr()
    assert main(["--config-file", clusters_config, "--resume", *words]) == 0
    rows = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    assert [row["epoch"] for row in rows if "clusters" in row] == [1, 2, 3], "the first epoch's row is still there"
    assert end_of(tmp_path / "run")["trainer"]["hooks"]["PseudoLabelHook"]["skipped"] == 1


def test_features_that_cannot_be_clustered_are_an_error(clusters_trainer, monkeypatch):
    def nothing(*arguments, **options):
        raise ValueError("30 of 30 training features hold NaN")

    monkeypatch.setattr("projects.PCL_CLIP.pseudo_label_hook.pseudo_labels", nothing)
    with pytest.raises(ValueError, match="images cannot be clustered: 30 of 30 training features hold NaN"):
        train(clusters_trainer())


@pytest.mark.parametrize("pattern", ["_c(?P<camid>[0-9])", ""])
def test_a_folder_without_identities(clusters_config, clusters_run, unlabelled_folder, tmp_path, capsys, pattern):
    """Neither identities nor a test set, nor cameras: a model, clusters.csv, and what is known said in the log."""
    words = clusters_run(
        DATASETS__ROOT=unlabelled_folder,
        DATASETS__TRAIN=["ImageFolder:street"],
        DATASETS__TEST=[],
        DATASETS__OWN_DATA__PATTERN=pattern,
        DATASETS__OWN_DATA__UNLABELLED=True,
        PCL__CLUSTERING__CENTER_CAMERAS=not pattern,
        **ALL,
    )
    assert main(["--config-file", clusters_config, *words]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "DATASETS.TEST is empty: nothing is evaluated, and CHECKPOINT.BEST_METRIC 'mAP' is ignored." in text
    assert ("each cluster is a single proxy" in text) == (not pattern)
    assert ("CENTER_CAMERAS does nothing" in text) == (not pattern)
    run = tmp_path / "run"
    assert [path.name for path in sorted(run.glob("*.pt"))] == ["checkpoint_00000003.pt", "checkpoint_00000006.pt"]
    assert not (run / "metrics.json").exists()
    rows = read_json_lines(run / "metrics.jsonl")
    assert not any("NMI" in row or "mAP" in row for row in rows) and all(len(row) > 3 for row in rows)
    assert next(row["clusters"] for row in rows if "clusters" in row) == 7
    assert all(math.isfinite(row["total_loss"]) for row in rows if "total_loss" in row)
    model = end_of(run)["model"]
    assert len(model["proxies.prototypes"]) == (13 if pattern else len(model["clusters.prototypes"]))
    with (run / "clusters.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == (["path", "camid", "cluster"] if pattern else ["path", "cluster"])
    assert len(found) == 30 and found[0]["path"].endswith("000_c1.jpg")
    assert main(["--config-file", clusters_config, "--eval-only", *words]) == 2
    assert "nothing to evaluate" in capsys.readouterr().out


@pytest.mark.parametrize(
    "more", [{"EPS": 0.0}, {"EPS": 1.0}, {"MIN_SAMPLES": 0}, {"K1": 0}, {"K2": -1}], ids=lambda more: str(more)
)
def test_impossible_settings(clusters_trainer, more):
    with pytest.raises(ConfigError, match=r"EPS must be in \(0, 1\), MIN_SAMPLES, K1 and K2 positive; got"):
        clusters_trainer(**{f"PCL__CLUSTERING__{key}": value for key, value in more.items()})


def test_a_model_that_takes_no_pseudo_labels(clusters_config, clusters_run, capsys):
    words = clusters_run(MODEL__META_ARCHITECTURE="PrototypeContrastiveCLIP", PCL__ID_LOSS_WEIGHT=0.0)
    assert main(["--config-file", clusters_config, *words]) == 2
    assert "set MODEL.META_ARCHITECTURE ClusterContrastiveCLIP" in " ".join(capsys.readouterr().out.split())


def test_labels_that_nobody_makes(clusters_config, clusters_run, market_config, small_run, capsys, monkeypatch):
    monkeypatch.setattr("reid_core.engine.default_trainer.build_datasets", lambda *arguments: pytest.fail("read"))
    for config, words, hook in (
        (clusters_config, clusters_run(HOOKS=[]), "none"),
        (market_config, small_run(DATASETS__USE_LABELS=False), "PrototypeMemoryHook"),
    ):
        assert main(["--config-file", config, *words]) == 2
        text = " ".join(capsys.readouterr().out.split())
        assert f"DATASETS.USE_LABELS is False, and no hook of HOOKS ({hook}) makes pseudo labels" in text


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("PseudoLabelHook", "Two hooks are named 'PseudoLabelHook'"),
        ("PrototypeMemoryHook", "a memory of identities, which ClusterContrastiveCLIP has not"),
    ],
)
def test_a_hook_too_many(clusters_config, clusters_run, capsys, other, message):
    assert main(["--config-file", clusters_config, *clusters_run(HOOKS=["PseudoLabelHook", other])]) == 2
    assert message in " ".join(capsys.readouterr().out.split())


def test_more_neighbours_than_images_are_one_cluster_and_named(clusters_config, clusters_run, capsys):
    assert main(["--config-file", clusters_config, *clusters_run(PCL__CLUSTERING__K1=1000)]) == 2
    assert "lower PCL.CLUSTERING.EPS (now 0.5) or K1 (1000)" in " ".join(capsys.readouterr().out.split())
