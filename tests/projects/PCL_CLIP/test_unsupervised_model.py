"""The losses by pseudo labels: each alone and together, what they need, and clusters of every shape."""

import pytest
import torch
from torch.nn import functional as F

from reid_core.config import ConfigError
from reid_core.engine.encoding import encode
from reid_core.modeling.losses import (
    intra_camera_loss,
    offline_association_loss,
    online_association_loss,
    prototype_contrastive_loss,
)
from reid_core.modeling.meta_arch import build_model
from reid_core.projects import load_config

WEIGHTS = {
    "cluster": "PCL__LOSS_WEIGHT",
    **{n: f"PCL__PROXY__{n.upper()}_WEIGHT" for n in ("intra", "offline", "online")},
}
CLUSTERS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, -1, -1])
CAMIDS = torch.tensor([0, 0, 1, 1, 0, 0, 2, 2, 1, 1, 3, 0])  # camera 3 has no proxy, cluster 2 one camera


def weights(**chosen):
    """The config's keys for these weights; 0 for the others."""
    return {key: chosen.get(name, 0.0) for name, key in WEIGHTS.items()}


@pytest.fixture
def make_model(clusters_config, clusters_run):
    def make(**more):
        torch.manual_seed(0)
        return build_model(load_config(clusters_config, clusters_run(**more)), "cpu", 0, 1, 1)

    return make


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (12, 3, 64, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def fill(model, images, clusters=CLUSTERS, camids=CAMIDS):
    features = encode(model, [{"images": images, "indices": torch.arange(len(images))}])
    proxies = model.set_pseudo_labels(clusters, camids)
    model.rebuild_memory(features, clusters, proxies)
    return proxies


def batch_of(images, rows, clusters=CLUSTERS, camids=CAMIDS):
    rows = torch.tensor(rows)
    return {"images": images[rows], "targets": clusters[rows], "camids": camids[rows], "indices": rows}


@pytest.mark.parametrize("chosen", [("cluster",), ("intra",), ("offline",), ("online",), tuple(WEIGHTS)], ids="+".join)
def test_losses_are_weighted_and_equal_their_definition(make_model, images, chosen):
    model = make_model(**weights(**{name: 0.5 + place for place, name in enumerate(chosen)}))
    proxies = fill(model, images)
    assert (model.proxies is None) == (chosen == ("cluster",))
    rows = [0, 1, 2, 4, 6, 7, 8, 9]
    batch = batch_of(images, rows)
    found = model.train()(batch)
    unit, targets, camids = F.normalize(model.features(batch), dim=1), batch["targets"], batch["camids"]
    own, of_cluster, of_camera = proxies[rows], torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 1, 0, 2, 1])
    memory = None if model.proxies is None else model.proxies.prototypes
    expected = {
        "cluster": lambda: prototype_contrastive_loss(unit, model.clusters.prototypes, targets, 0.05),
        "intra": lambda: intra_camera_loss(unit, memory, own, of_camera, camids, 0.07),
        "offline": lambda: offline_association_loss(unit, memory, targets, of_cluster, camids, 0.07),
        "online": lambda: online_association_loss(unit, memory, own, of_camera, camids, 0.07),
    }
    assert set(found) == {f"loss_{name}" for name in chosen}
    for place, name in enumerate(chosen):
        torch.testing.assert_close(found[f"loss_{name}"], (0.5 + place) * expected[name]())


def test_only_the_memories_that_a_loss_needs_are_built_and_moved(make_model, images):
    for chosen, cluster_rows, proxy_rows in (
        (("cluster",), 3, None),
        (("intra",), 0, 5),
        (("cluster", "online"), 3, 5),
    ):
        model = make_model(**weights(**dict.fromkeys(chosen, 1.0)))
        fill(model, images)
        assert len(model.clusters.prototypes) == cluster_rows
        assert proxy_rows is None or len(model.proxies.prototypes) == proxy_rows
        before = {name: value.clone() for name, value in model.state_dict().items() if "prototypes" in name}
        sum(model.train()(batch_of(images, [0, 1, 4, 5])).values()).backward()
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
        model.update_memory()
        moved = {name: (value != model.state_dict()[name]).any(dim=1) for name, value in before.items()}
        if cluster_rows:
            assert moved["clusters.prototypes"].tolist() == [True, True, False]
        if proxy_rows:
            assert moved["proxies.prototypes"].tolist() == [True, False, True, False, False]


@pytest.mark.parametrize(
    ("clusters", "camids"),
    [
        ([0] * 12, [0] * 6 + [1] * 6),  # a single cluster: nothing but its cameras to tell apart
        (list(range(6)) * 2, [0] * 12),  # a single camera
        (list(range(6)) * 2, [1] * 12),  # a single camera that is not the first
        (list(range(12)), list(range(12))),  # an image each
    ],
)
def test_clusters_of_every_shape_have_finite_losses(make_model, images, clusters, camids):
    clusters, camids = torch.tensor(clusters), torch.tensor(camids)
    model = make_model(**weights(cluster=1, intra=1, offline=1, online=1), DATALOADER__SAMPLER="RandomSampler")
    fill(model, images, clusters, camids)
    losses = model.train()(batch_of(images, list(range(12)), clusters, camids))
    assert all(loss.isfinite() and loss >= 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert model.backbone.visual.proj.grad.isfinite().all()
    model.update_memory()
    torch.testing.assert_close(model.proxies.prototypes.norm(dim=1), torch.ones(len(model.proxies.prototypes)))


def test_where_cameras_are_not_told_a_cluster_is_one_proxy(make_model, images):
    model = make_model(**weights(offline=1))
    proxies = fill(model, images, camids=torch.zeros_like(CAMIDS))
    assert proxies.tolist() == CLUSTERS.tolist()
    seen = [
        model.train()(batch_of(images, [0, 2, 4, 6], camids=camids))["loss_offline"].isfinite()
        for camids in (CAMIDS, CAMIDS - 1)
    ]
    assert all(seen), "whatever the batch has for cameras"


@pytest.mark.parametrize("chosen", ["cluster", "intra"])
def test_a_memory_that_nobody_filled_is_refused(make_model, images, chosen):
    model = make_model(**weights(**{chosen: 1.0}))
    with pytest.raises(ValueError, match="is empty: add PseudoLabelHook to HOOKS"):
        model.train()(batch_of(images, [0, 1, 2, 3]))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (weights(), "are all 0: no loss is left"),
        (weights(cluster=1.0, intra=-1.0), "must not be negative"),
        ({"PCL__TEMPERATURE": 0.0}, "PCL.TEMPERATURE and PCL.PROXY.TEMPERATURE must be positive"),
        ({"PCL__PROXY__TEMPERATURE": -1.0}, "PCL.TEMPERATURE and PCL.PROXY.TEMPERATURE must be positive"),
        ({"PCL__PROXY__NUM_NEGATIVES": 0}, "NUM_NEGATIVES and NUM_POSITIVES must be positive"),
        ({"PCL__PROXY__BALANCE": 1.5}, r"BALANCE in \[0, 1\]"),
    ],
)
def test_bad_settings(make_model, more, message):
    with pytest.raises(ConfigError, match=message):
        make_model(**more)


def test_a_bound_of_occurrences_is_known_where_the_sampler_fixes_it(make_model):
    proxies = weights(cluster=1.0, intra=1.0)
    assert make_model().occurrences == (4, 4)
    assert make_model(DATALOADER__SAMPLER="IdentityCameraSampler").occurrences == (4, 4)
    assert make_model(**proxies).occurrences == (None, 4), "a cluster has several proxies"
    assert make_model(**proxies, DATALOADER__SAMPLER="IdentityCameraSampler").occurrences == (None, 4)
    assert make_model(**proxies, DATALOADER__SAMPLER="RandomSampler").occurrences == (None, None)


def test_the_supervised_model_knows_the_bound_of_both_identity_samplers(market_config, small_run):
    for sampler, expected in (("IdentitySampler", 2), ("IdentityCameraSampler", 2), ("RandomSampler", None)):
        cfg = load_config(market_config, small_run(DATALOADER__SAMPLER=sampler))
        assert build_model(cfg, "cpu", 4, 1, 1).occurrences == expected


def test_a_model_for_evaluation_has_no_classifier_and_no_prototypes(make_model, images):
    model = make_model(**weights(cluster=1.0, online=1.0))
    assert model.heads.classifier is None
    assert model.clusters.prototypes.shape == model.proxies.prototypes.shape == (0, model.heads.output_width)
    assert encode(model, [{"images": images, "indices": torch.arange(12)}]).shape == (12, model.heads.output_width)
