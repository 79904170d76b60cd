"""The memory is built anew at the start of every epoch, from all training images and the model as it then is."""

import pytest
import torch
from torch.nn import functional as F

from reid_core.data.loader import build_test_loader
from reid_core.engine.default_trainer import DefaultTrainer
from reid_core.engine.encoding import encode
from reid_core.engine.hooks import Hook
from reid_core.projects import load_config


class Watch(Hook):
    """Looks at the memory after the hook under test; moves only."""

    def __init__(self):
        self.starts, self.steps = [], []

    def before_epoch(self):
        model, data = self.trainer.model, self.trainer.training_set
        features = F.normalize(encode(model, build_test_loader(self.trainer.cfg, data.images)), dim=1)
        means = torch.stack([features[data.targets == label].mean(dim=0) for label in range(data.num_identities)])
        self.starts.append((model.memory.prototypes.clone(), F.normalize(means, dim=1)))

    def after_step(self):
        self.steps.append(self.trainer.model.memory.prototypes.clone())


@pytest.mark.parametrize("rule", ["hard", "plain"])
def test_rebuilt_each_epoch_and_updated_each_step(market_config, small_run, rule):
    trainer = DefaultTrainer(load_config(market_config, small_run(PCL__UPDATE_RULE=rule)))
    watch = Watch()
    trainer.register_hook(watch)
    trainer.train()
    trainer.close()
    assert len(watch.starts) == 2
    for memory, expected in watch.starts:
        torch.testing.assert_close(memory, expected, rtol=1e-5, atol=1e-6)
    assert len(watch.steps) == 6
    before = [watch.starts[0][0], *watch.steps[:2], watch.starts[1][0], *watch.steps[3:5]]
    for old, new in zip(before, watch.steps, strict=True):
        moved = (old != new).any(dim=1).sum()
        assert moved == 4  # P identities of the batch, no other row
