import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from reid_core.modeling.losses import (
    images_of_cameras,
    intra_camera_loss,
    offline_association_loss,
    online_association_loss,
    proxy_labels,
)
from reid_core.modeling.memory import PrototypeBank

TEMPERATURE = 0.07


def random_case(seed, images=40, clusters=5, cameras=4, batch=9, width=6):
    """Prototypes, the proxies' clusters and cameras, and a batch: features, targets, proxies, camids. float64."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(clusters, (images,), generator=generator)
    camids = 3 * torch.randint(cameras, (images,), generator=generator) + 1  # not all numbers are cameras
    proxies, prototype_clusters, prototype_cameras = proxy_labels(labels, camids)
    prototypes = torch.randn(len(prototype_clusters), width, generator=generator, dtype=torch.float64)
    chosen = torch.randint(images, (batch,), generator=generator)
    features = torch.randn(batch, width, generator=generator, dtype=torch.float64)
    return {
        "features": F.normalize(features, dim=1).requires_grad_(),
        "prototypes": F.normalize(prototypes, dim=1),
        "prototype_clusters": prototype_clusters,
        "prototype_cameras": prototype_cameras,
        "targets": labels[chosen],
        "proxies": proxies[chosen],
        "camids": camids[chosen],
    }


def arguments(case, *names):
    return [case[name] for name in ("features", "prototypes", *names)]


def intra(case, temperature=TEMPERATURE, **options):
    return intra_camera_loss(*arguments(case, "proxies", "prototype_cameras", "camids"), temperature, **options)


def offline(case, temperature=TEMPERATURE, **options):
    return offline_association_loss(*arguments(case, "targets", "prototype_clusters", "camids"), temperature, **options)


def online(case, temperature=TEMPERATURE, **options):
    return online_association_loss(*arguments(case, "proxies", "prototype_cameras", "camids"), temperature, **options)


def loop(case, choose):
    """Sum over cameras of the mean of -mean_positives log softmax over candidates; choose gives both as lists."""
    total = torch.zeros((), dtype=torch.float64)
    for camera in sorted(set(case["camids"].tolist())):
        terms = []
        for image in (case["camids"] == camera).nonzero().flatten().tolist():
            logits = {}
            positives, others = choose(case, image)
            for proxy in positives + others:
                logits[proxy] = (case["features"][image] * case["prototypes"][proxy]).sum() / TEMPERATURE
            partition = torch.stack(list(logits.values())).exp().sum()
            terms.append(-sum((logits[proxy].exp() / partition).log() for proxy in positives) / len(positives))
        total = total + sum(terms) / len(terms)
    return total


def choose_intra(case, image):
    own = int(case["proxies"][image])
    cameras = case["prototype_cameras"].tolist()
    return [own], [proxy for proxy, camera in enumerate(cameras) if camera == case["camids"][image] and proxy != own]


def choose_offline(case, image, num_negatives=50):
    similarity = (case["prototypes"] @ case["features"][image]).tolist()
    clusters = case["prototype_clusters"].tolist()
    ranked = sorted(range(len(clusters)), key=lambda proxy: -similarity[proxy])
    positives = [proxy for proxy in ranked if clusters[proxy] == case["targets"][image]]
    return positives, [proxy for proxy in ranked if proxy not in positives][:num_negatives]


def choose_online(case, image, num_positives=3, num_negatives=50, balance=0.15):
    own = case["prototypes"][case["proxies"][image]]
    mixed = (case["prototypes"] @ (balance * case["features"][image] + (1 - balance) * own)).tolist()
    cameras = case["prototype_cameras"].tolist()
    ranked = sorted(range(len(cameras)), key=lambda proxy: -mixed[proxy])
    best = []
    for proxy in ranked:
        if cameras[proxy] not in [cameras[other] for other in best]:
            best.append(proxy)
    positives = best[:num_positives]
    return positives, [proxy for proxy in ranked if proxy not in positives][:num_negatives]


def assert_equals_loop(case, loss, choose):
    """Value and gradient of the loss are those of the loop. Returns the gradient."""
    expected = loop(case, choose)
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(value, case["features"])[0] for value in (loss, expected)]
    torch.testing.assert_close(*gradients)
    return gradients[0]


CASES = st.builds(
    random_case,
    seed=st.integers(0, 99_999),
    images=st.integers(1, 40),
    clusters=st.integers(1, 6),
    cameras=st.integers(1, 5),
    batch=st.integers(1, 10),
)


@settings(deadline=None, max_examples=40)
@given(case=CASES)
def test_intra_matches_a_loop(case):
    assert_equals_loop(case, intra(case), choose_intra)


@settings(deadline=None, max_examples=40)
@given(case=CASES, num_negatives=st.sampled_from([1, 2, 5, 50]))
def test_offline_matches_a_loop(case, num_negatives):
    choose = functools.partial(choose_offline, num_negatives=num_negatives)
    assert_equals_loop(case, offline(case, num_negatives=num_negatives), choose)


@settings(deadline=None, max_examples=60)
@given(
    case=CASES,
    num_positives=st.integers(1, 7),
    num_negatives=st.sampled_from([1, 2, 5, 50]),
    balance=st.sampled_from([0.0, 0.15, 0.5, 1.0]),
)
def test_online_matches_a_loop(case, num_positives, num_negatives, balance):
    options = {"num_positives": num_positives, "num_negatives": num_negatives, "balance": balance}
    assert_equals_loop(case, online(case, **options), functools.partial(choose_online, **options))


@settings(deadline=None, max_examples=60)
@given(images=st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 9)), max_size=30))
def test_proxies_are_numbered_by_cluster_then_camera(images):
    expected, counter = [-1] * len(images), 0
    clusters, cameras = [], []
    for cluster in sorted({cluster for cluster, _ in images} - {-1}):
        for camera in sorted({camera for label, camera in images if label == cluster}):
            expected = [
                counter if image == (cluster, camera) else old for image, old in zip(images, expected, strict=True)
            ]
            clusters.append(cluster)
            cameras.append(camera)
            counter += 1
    columns = torch.tensor(images, dtype=torch.int64).reshape(-1, 2)
    found = proxy_labels(columns[:, 0], columns[:, 1])
    assert [values.tolist() for values in found] == [expected, clusters, cameras]
    assert all(values.dtype == torch.int64 for values in found)


def hand_made(prototype_clusters, prototype_cameras, own):
    """A batch of the named proxies' images over prototypes of the given clusters and cameras."""
    generator = torch.Generator().manual_seed(0)
    prototypes = torch.randn(len(prototype_clusters), 5, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(own), 5, generator=generator, dtype=torch.float64)
    own = torch.tensor(own)
    case = {
        "prototypes": F.normalize(prototypes, dim=1),
        "prototype_clusters": torch.tensor(prototype_clusters),
        "prototype_cameras": torch.tensor(prototype_cameras),
        "proxies": own,
    }
    features = F.normalize(case["prototypes"][own] + 0.3 * noise, dim=1).requires_grad_()
    targets, camids = case["prototype_clusters"][own], case["prototype_cameras"][own]
    return {**case, "features": features, "targets": targets, "camids": camids}


def take(case, rows):
    """The case with these images of its batch."""
    return case | {name: case[name][rows] for name in ("features", "targets", "proxies", "camids")}


def test_a_camera_with_one_proxy_adds_nothing_to_intra():
    alone = hand_made([0, 0, 1], [0, 1, 0], own=[1, 1])  # camera 1 has proxy 1 only
    loss = intra(alone)
    assert loss == 0 and not torch.autograd.grad(loss, alone["features"])[0].any()
    both = hand_made([0, 0, 1], [0, 1, 0], own=[1, 1, 0])
    gradient = assert_equals_loop(both, intra(both), choose_intra)
    assert not gradient[:2].any() and gradient[2].any()


def test_a_cluster_of_one_proxy_is_an_ordinary_target():
    case = hand_made([0, 0, 1, 2], [0, 1, 0, 1], own=[2, 3])
    assert_equals_loop(case, offline(case), choose_offline)
    few = offline(case, num_negatives=1)
    assert few < offline(case)
    torch.testing.assert_close(offline(case), offline(case, num_negatives=3))  # three others are all there are


def test_where_there_is_nothing_to_be_told_from_the_losses_are_zero():
    case = hand_made([0], [4], own=[0, 0])
    for loss in (intra(case), offline(case), online(case)):
        assert loss == 0 and not torch.autograd.grad(loss, case["features"])[0].any()


def test_one_cluster_of_several_proxies_pulls_towards_all_of_them():
    case = hand_made([0, 0, 0], [0, 1, 2], own=[0])
    gradient = assert_equals_loop(case, offline(case), choose_offline)
    assert gradient.any()


def test_more_positives_than_cameras_are_all_cameras():
    case = hand_made([0, 0, 1, 1, 2], [0, 1, 0, 1, 1], own=[0, 3, 4])
    expected = online(case, num_positives=2)
    assert_equals_loop(case, expected, functools.partial(choose_online, num_positives=2))
    assert online(case, num_positives=1) != expected
    for number in (3, 20):  # there are two cameras
        torch.testing.assert_close(online(case, num_positives=number), expected)


def test_a_batch_of_one_camera_is_a_plain_mean():
    case = hand_made([0, 1, 2, 2], [0, 0, 0, 1], own=[0, 1, 2, 1])
    expected = F.cross_entropy(case["features"] @ case["prototypes"][:3].T / TEMPERATURE, case["proxies"])
    torch.testing.assert_close(intra(case), expected)


def test_a_camera_with_few_images_counts_as_much_as_one_with_many():
    few = hand_made([0, 1, 0, 1], [0, 0, 1, 1], own=[0, 2])
    many = take(few, torch.tensor([0, 0, 0, 1]))
    for function in (intra, offline, online):
        torch.testing.assert_close(function(many), function(few))


def test_an_empty_batch_is_zero():
    case = hand_made([0, 1, 1], [0, 0, 1], own=[0])
    empty = take(case, slice(0, 0))
    for function in (intra, offline, online):
        loss = function(empty)
        assert loss == 0 and torch.autograd.grad(loss, empty["features"])[0].shape == (0, 5)


@pytest.mark.parametrize("function", [intra, offline, online])
def test_prototypes_get_no_gradient_and_equal_ones_are_the_same_choice(function):
    case = hand_made([0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 1], own=[0, 3])
    case["prototypes"] = case["prototypes"][torch.tensor([0, 1, 2, 3, 2, 3])].requires_grad_()
    options = {} if function is intra else {"num_negatives": 2}
    loss = function(case, **options)
    loss.backward()
    assert case["prototypes"].grad is None
    swapped = case | {"prototypes": case["prototypes"].detach()[torch.tensor([0, 1, 4, 5, 2, 3])]}
    torch.testing.assert_close(function(swapped, **options), loss)


@pytest.mark.parametrize("function", [intra, offline, online])
def test_sixteen_bits_and_autocast_give_a_float32_loss_of_exact_products(function):
    case = random_case(0)
    case["prototypes"] = case["prototypes"].float()
    half = case | {"features": case["features"].detach().bfloat16()}
    single = case | {"features": half["features"].float()}
    loss = function(half)
    assert loss.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(function(single), loss, rtol=0, atol=0)


@pytest.mark.parametrize("function", [intra, offline, online])
def test_following_the_gradient_and_updating_the_bank_brings_images_to_their_proxies(function):
    case = random_case(1, batch=12)
    bank = PrototypeBank(*case["prototypes"].shape, momentum=0.2, update_rule="plain")
    bank.prototypes.copy_(case["prototypes"])
    first = function(case).detach()
    for _ in range(20):
        case |= {"prototypes": bank.prototypes, "features": case["features"].detach().requires_grad_()}
        gradient = torch.autograd.grad(function(case), case["features"])[0]
        case["features"] = F.normalize(case["features"].detach() - 0.02 * gradient, dim=1)
        bank.update(case["features"], case["proxies"])
    assert function(case) < 0.7 * first


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (intra, {"temperature": 0.0}, "temperature must be positive, got 0.0"),
        (offline, {"temperature": -1.0}, "temperature must be positive"),
        (online, {"temperature": 0.0}, "temperature must be positive"),
        (offline, {"num_negatives": 0}, "num_negatives must be positive, got 0"),
        (online, {"num_negatives": -2}, "num_negatives must be positive"),
        (online, {"num_positives": 0}, "num_positives must be positive"),
        (online, {"balance": 1.5}, r"balance must be in \[0, 1\], got 1.5"),
    ],
)
def test_bad_arguments(function, options, message):
    with pytest.raises(ValueError, match=message):
        function(random_case(0), **options)


def test_labels_that_do_not_fit_the_proxies_are_refused():
    case = hand_made([0, 1, 1], [0, 0, 1], own=[0, 2])
    for function in (intra, online):
        for proxies in ([0, 1], [0, -1]):  # of another camera; an image that was left out of the clusters
            with pytest.raises(RuntimeError, match="proxy is -1 or of another camera"):
                function(case | {"proxies": torch.tensor(proxies)})
    with pytest.raises(RuntimeError, match="the cluster of an image has no proxy"):
        offline(case | {"targets": torch.tensor([0, -1])})
    with pytest.raises(ValueError, match=r"one entry for each image, got shapes \[2\] and \[3\]"):
        proxy_labels(torch.zeros(2, dtype=torch.int64), torch.zeros(3, dtype=torch.int64))


@settings(deadline=None, max_examples=20)
@given(case=CASES)
def test_parts_of_a_batch_add_up_to_the_whole(case):
    """What two processes compute with counts over both, averaged, has the value and the gradient of the whole."""
    cut = len(case["camids"]) // 2
    counts = images_of_cameras(case["camids"])
    for function in (intra, offline, online):
        whole = function(case)
        assert torch.equal(function(case, images_of_camera=counts), whole), "alone it changes nothing"
        parts = [
            function(take(case, rows), images_of_camera=counts[rows] / 2) for rows in (slice(cut), slice(cut, None))
        ]
        average = sum(parts) / 2
        torch.testing.assert_close(average, whole)
        gradients = [torch.autograd.grad(value, case["features"])[0] for value in (average, whole)]
        torch.testing.assert_close(*gradients)
