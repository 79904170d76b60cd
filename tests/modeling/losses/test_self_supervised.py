import math
import multiprocessing

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from reid_core.modeling.losses import simclr_loss, simsiam_loss, simsiam_min_loss


def views(number, batch=6, width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, width, generator=generator) for _ in range(number)]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 9999), batch=st.integers(1, 7), temperature=st.sampled_from([0.05, 0.1, 1.0, 7.0]))
def test_simclr_matches_a_loop(seed, batch, temperature):
    first, second = views(2, batch, seed=seed)
    terms = []
    for own, other in ((first, second), (second, first)):
        for i in range(batch):
            rest = [own[j] for j in range(batch) if j != i] + list(other)
            similarity = torch.stack([F.cosine_similarity(own[i], row, dim=0) for row in rest]).double() / temperature
            positive = F.cosine_similarity(own[i], other[i], dim=0).double() / temperature
            terms.append(similarity.exp().sum().log() - positive)
    expected = torch.stack(terms).mean().float()
    torch.testing.assert_close(simclr_loss(first, second, temperature), expected, rtol=1e-4, atol=1e-5)


def test_simclr_of_one_item_and_of_none_is_zero():
    for batch in (0, 1):
        first, second = (view.requires_grad_() for view in views(2, batch))
        loss = simclr_loss(first, second, 0.1)
        loss.backward()
        assert loss == 0 and first.grad.shape == (batch, 5)
        assert not first.grad.any() and not second.grad.any()


def test_simclr_of_equal_views_far_from_all_others_is_nearly_zero_and_does_not_depend_on_length():
    first = torch.eye(5)
    assert simclr_loss(first, 3 * first, 0.02) < 1e-6
    a, b = views(2)
    torch.testing.assert_close(simclr_loss(a, b, 0.1), simclr_loss(2 * a, 0.1 * b, 0.1))
    torch.testing.assert_close(simclr_loss(a, b, 0.1), simclr_loss(b, a, 0.1))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 9999), batch=st.integers(1, 5), rows=st.integers(1, 4))
def test_simsiam_matches_its_formula(seed, batch, rows):
    a1, a2, z1, z2 = (view.view(batch, rows, 4) for view in views(4, batch * rows, 4, seed))
    cosine = torch.nn.CosineSimilarity(dim=-1)
    first = torch.tensor([max(cosine(p, z) for z in z2[i]) for i in range(batch) for p in a1[i]]).mean()
    second = torch.tensor([max(cosine(p, z) for z in z1[i]) for i in range(batch) for p in a2[i]]).mean()
    torch.testing.assert_close(simsiam_min_loss(a1, a2, z1, z2), -(first + second) / 2)
    plain = -(cosine(a1[:, 0], z2[:, 0]).mean() + cosine(a2[:, 0], z1[:, 0]).mean()) / 2
    torch.testing.assert_close(simsiam_loss(a1[:, 0], a2[:, 0], z1[:, 0], z2[:, 0]), plain)


@pytest.mark.parametrize("loss", [simsiam_loss, lambda *x: simsiam_min_loss(*(view[None] for view in x))])
def test_simsiam_stops_the_gradient_at_the_targets(loss):
    inputs = [view.requires_grad_() for view in views(4)]
    loss(*inputs).backward()
    assert all(predicted.grad.any() for predicted in inputs[:2])
    assert all(target.grad is None for target in inputs[2:])


def test_autocast_does_not_round_cosines():
    inputs = [14 + 0.1 * view for view in views(4, 8, 64)]  # nearly parallel
    exact = simclr_loss(*inputs[:2], 0.01), simsiam_loss(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close((simclr_loss(*inputs[:2], 0.01), simsiam_loss(*inputs)), exact)
        halves = [view.bfloat16() for view in inputs]
        assert simclr_loss(*halves[:2], 0.01).dtype == simsiam_loss(*halves).dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: simclr_loss(*views(2), temperature=0.0), "temperature must be positive, got 0.0"),
        (lambda: simclr_loss(torch.zeros(2, 3), torch.zeros(1, 3), 0.1), r"one shape.*second \[1, 3\]"),
        (lambda: simclr_loss(torch.zeros(2, 3, 1), torch.zeros(2, 3, 1), 0.1), "2 dimensions"),
        (lambda: simsiam_loss(*views(3), torch.zeros(1, 5)), r"target_second \[1, 5\]"),
        (lambda: simsiam_min_loss(*views(4)), "3 dimensions"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


SHARES = {"equal": [3, 3], "unequal": [2, 4], "empty": [6, 0]}


def _loss_and_gradient(part, world_size, equal=False):
    """Loss of two views of the rows `part` of the batch, gradient of a linear layer, averaged over processes."""
    first, second = (view.double()[part] for view in views(2))
    weight = views(1, 5, 5, seed=9)[0].double().requires_grad_()
    loss = simclr_loss(first @ weight, second @ weight, 0.1, equal)
    loss.backward()
    if world_size > 1:
        dist.all_reduce(weight.grad)
    return loss.detach(), weight.grad / world_size


def _worker(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    results = {}
    for name, shares in SHARES.items():
        part = slice(rank * shares[0], rank * shares[0] + shares[rank])
        results[name] = _loss_and_gradient(part, 2, equal=name == "equal")
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_loss_and_the_gradient_of_one(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.modeling.losses.test_self_supervised"])
    workers = [context.Process(target=_worker, args=(rank, tmp_path)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
        assert worker.exitcode == 0
    expected = _loss_and_gradient(slice(None), 1)
    assert expected[0] > 0 and math.isfinite(expected[0])
    for rank in range(2):
        for name, result in torch.load(tmp_path / f"{rank}.pt", weights_only=True).items():
            torch.testing.assert_close(result, expected, msg=f"process {rank}, {name}")
