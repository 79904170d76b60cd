"""Two processes encode their shares and score what one process scores, to the last digit."""

import json
import multiprocessing

import torch
import torch.distributed as dist

from reid_core.engine.test_sets import TestSets, build_datasets
from reid_core.modeling.meta_arch import MetaArchitecture
from reid_core.projects import load_config
from tests.conftest import write_small_market


class MeanColours(MetaArchitecture):
    """Features of an image that do not depend on its batch."""

    def __init__(self):
        super().__init__([0.5] * 3, [0.5] * 3)

    def features(self, batch):
        return batch["images"].double().mean(dim=(2, 3))


def score(config, words):
    cfg = load_config(config, words)
    sets = TestSets(cfg, build_datasets(cfg, ["Market1501"]), {})
    results = sets.evaluate(MeanColours())["Market1501"]
    results["per_query"] = {key: column.tolist() for key, column in results["per_query"].items()}
    return results


def worker(rank, folder, config, words):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    (folder / f"{rank}.json").write_text(json.dumps(score(config, words)))
    dist.destroy_process_group()


def test_two_processes_score_what_one_does(tmp_path, market_config, small_run):
    """Of three queries and twelve gallery images: shares and batches of different sizes, none of them padded."""
    data = write_small_market(tmp_path / "data")
    sorted((data / "Market-1501-v15.09.15" / "query").iterdir())[1].unlink()
    refined = {"TEST__RERANK": True, "TEST__QUERY_EXPANSION": True, "TEST__FLIP": True}
    words = small_run(DATASETS__ROOT=data, TEST__BATCH_SIZE=5, TEST__PER_QUERY=True, TEST__ROC=True, **refined)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.evaluation.test_two_processes"])
    workers = [context.Process(target=worker, args=(rank, tmp_path, market_config, words)) for rank in range(2)]
    for process in workers:
        process.start()
    for process in workers:
        process.join(timeout=120)
        assert process.exitcode == 0
    expected = json.dumps(score(market_config, words))
    assert "expanded+reranked/mAP" in expected
    assert [(tmp_path / f"{rank}.json").read_text() for rank in range(2)] == [expected] * 2
