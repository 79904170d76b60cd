"""Rows of all processes, with and without gradient: two processes against the formulas."""

import multiprocessing

import pytest
import torch
import torch.distributed as dist

from reid_core.utils import comm

SHARES = {"equal": (3, 3), "unequal": (2, 5), "first_empty": (0, 4), "second_empty": (4, 0), "all_empty": (0, 0)}


def _case(name):
    """All rows [N, 2, 3], and one weight for each of their numbers and processes."""
    generator = torch.Generator().manual_seed(len(name))
    shape = (sum(SHARES[name]), 2, 3)
    rows = torch.randn(shape, generator=generator, dtype=torch.float64)
    return rows, torch.randn((2, *shape), generator=generator, dtype=torch.float64)


def _own(name, rank):
    first = SHARES[name][0]
    return slice(0, first) if rank == 0 else slice(first, None)


def _results(rank):
    results = {}
    for name in SHARES:
        all_rows, weights = _case(name)
        rows = all_rows[_own(name, rank)].clone().requires_grad_()
        gathered = comm.all_gather_with_gradient(rows, equal=name == "equal")
        (weights[rank] * gathered.square()).sum().backward()  # another function in each process
        results[name] = (gathered.detach(), rows.grad, comm.all_gather_rows(rows))
    rows = torch.ones(2, 3, requires_grad=rank == 0)  # the second process's rows are constants
    comm.all_gather_with_gradient(2 * rows).sum().backward()
    results["constant"] = rows.grad if rank == 0 else torch.zeros(0)
    with torch.no_grad():
        results["no_grad"] = comm.all_gather_with_gradient(rows)
    return results


def _worker(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save(_results(rank), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What each of two processes computed."""
    folder = tmp_path_factory.mktemp("processes")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.utils.test_comm"])
    workers = [context.Process(target=_worker, args=(rank, folder)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
        assert worker.exitcode == 0
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", SHARES)
def test_rows_come_in_rank_order_and_their_gradients_are_summed(two_processes, name):
    rows, weights = _case(name)
    for rank, results in enumerate(two_processes):
        gathered, gradient, without = results[name]
        assert torch.equal(gathered, rows) and torch.equal(without, rows)
        expected = (2 * weights.sum(dim=0) * rows)[_own(name, rank)]
        torch.testing.assert_close(gradient, expected)


def test_constant_rows_of_one_process_do_not_keep_the_other_waiting(two_processes):
    assert torch.equal(two_processes[0]["constant"], torch.full((2, 3), 4.0))  # 2 from each process
    assert all(torch.equal(results["no_grad"], torch.ones(4, 3)) for results in two_processes)


def test_without_a_process_group_the_rows_are_returned():
    rows = torch.randn(3, 2, requires_grad=True)
    comm.all_gather_with_gradient(rows).square().sum().backward()
    torch.testing.assert_close(rows.grad, 2 * rows.detach())
    assert not comm.all_gather_rows(rows).requires_grad
