"""tools/train_net.py as a user starts it: an out-of-tree project, several processes, evaluation of a checkpoint."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch

from reid_core.modeling.checkpoint import list_checkpoints, read_checkpoint
from reid_core.utils.writers import read_json_lines
from tests.paths import ROOT

PROJECT = {
    "__init__.py": """
        from projects.tiny_method.config import add_config
        from projects.tiny_method.parts import CenterHook, CenterModel, ColumnHead, StripBackbone

        __all__ = ["CenterHook", "CenterModel", "ColumnHead", "StripBackbone", "add_config"]
        """,
    "config.py": """
        from reid_core.config import CfgNode


        def add_config(cfg):
            cfg.TINY = CfgNode()
            cfg.TINY.WIDTH = 8  # channels of the backbone
            cfg.TINY.CENTER_WEIGHT = 0.1  # weight of the pull towards the batch's centres
        """,
    "losses.py": """
        def center_loss(features, targets):
            same = (targets[:, None] == targets[None, :]).to(features.dtype)
            centers = same @ features / same.sum(dim=1, keepdim=True)
            return (features - centers).square().sum(dim=1).mean()
        """,
    "parts.py": """
        import torch
        from torch import nn

        from projects.tiny_method.losses import center_loss
        from reid_core.engine.hooks import Hook
        from reid_core.modeling.losses import identity_loss
        from reid_core.modeling.meta_arch import MetaArchitecture
        from reid_core.registry import (
            BACKBONE_REGISTRY,
            HEADS_REGISTRY,
            HOOK_REGISTRY,
            META_ARCHITECTURE_REGISTRY,
        )


        @BACKBONE_REGISTRY.register()
        class StripBackbone(nn.Module):
            def __init__(self, width):
                super().__init__()
                self.width = width
                self.convolution = nn.Conv2d(3, width, 8, stride=8)

            def forward(self, images):
                return self.convolution(images).relu().mean(dim=3).flatten(1)

            @classmethod
            def from_config(cls, cfg):
                return {"width": cfg.TINY.WIDTH}


        @HEADS_REGISTRY.register()
        class ColumnHead(nn.Module):
            def __init__(self, width, num_identities):
                super().__init__()
                self.classifier = nn.Linear(width, num_identities) if num_identities else None

            @classmethod
            def from_config(cls, cfg, width, num_identities):
                return {"width": width, "num_identities": num_identities}


        @META_ARCHITECTURE_REGISTRY.register()
        class CenterModel(MetaArchitecture):
            identity_bound = ("head.classifier",)

            def __init__(self, backbone, head, weight, pixel_mean, pixel_std):
                super().__init__(pixel_mean, pixel_std)
                self.backbone, self.head, self.weight = backbone, head, weight

            def features(self, batch):
                return self.backbone(self.normalise(batch["images"]))

            def losses(self, batch):
                features = self.features(batch)
                return {
                    "loss_id": identity_loss(self.head.classifier(features), batch["targets"]),
                    "loss_center": self.weight * center_loss(features, batch["targets"]),
                }

            @classmethod
            def from_config(cls, cfg, num_identities, num_cameras, num_views):
                backbone = BACKBONE_REGISTRY.build(cfg.MODEL.BACKBONE.NAME, cfg)
                width = backbone.width * (cfg.INPUT.SIZE_TRAIN[0] // 8)
                return {
                    "backbone": backbone,
                    "head": HEADS_REGISTRY.build(
                        cfg.MODEL.HEADS.NAME, cfg, width=width, num_identities=num_identities
                    ),
                    "weight": cfg.TINY.CENTER_WEIGHT,
                    "pixel_mean": cfg.MODEL.PIXEL_MEAN,
                    "pixel_std": cfg.MODEL.PIXEL_STD,
                }


        @HOOK_REGISTRY.register()
        class CenterHook(Hook):
            name = "center"

            def __init__(self, images):
                self.images, self.steps = images, 0

            def after_step(self):
                self.steps += 1
                self.trainer.metrics.put({"hook_steps": self.steps})

            def state_dict(self):
                return {"steps": self.steps}

            def load_state_dict(self, state):
                self.steps = state["steps"]

            @classmethod
            def from_config(cls, cfg, training_set):
                return {"images": len(training_set)}
        """,
    "configs/tiny.yml": """
        MODEL:
          META_ARCHITECTURE: CenterModel
          BACKBONE: {NAME: StripBackbone}
          HEADS: {NAME: ColumnHead}
        TINY: {WIDTH: 6}
        HOOKS: [CenterHook]
        INPUT: {SIZE_TRAIN: [64, 32], SIZE_TEST: [64, 32]}
        DATALOADER: {BATCH_SIZE: 8, NUM_INSTANCES: 2, NUM_WORKERS: 0}
        SOLVER: {MAX_EPOCHS: 3, ITERATIONS_PER_EPOCH: 4, BASE_LR: 0.05, WARMUP_EPOCHS: 0}
        LOG: {PERIOD: 1, TENSORBOARD: true}
        """,
}


def _command(arguments, environment, launcher=()):
    return subprocess.run(
        [sys.executable, *launcher, str(ROOT / "tools" / "train_net.py"), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.fixture
def out_of_tree(tmp_path):
    """A project folder in a place that has nothing to do with the toolkit."""
    folder = tmp_path / "somewhere" / "tiny_method"
    for name, text in PROJECT.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())
    return folder


def test_a_project_outside_the_tree_trains_resumes_and_is_evaluated(
    out_of_tree, small_market, tmp_path, subprocess_environment
):
    output = tmp_path / "run"
    words = ["--config-file", out_of_tree / "configs" / "tiny.yml", "DATASETS.ROOT", small_market, "OUTPUT_DIR", output]
    done = _command([*words, "SOLVER.MAX_EPOCHS", 2], subprocess_environment)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = read_json_lines(output / "metrics.jsonl")
    assert rows[0]["loss_center"] > 0
    assert [row["hook_steps"] for row in rows if "hook_steps" in row] == list(range(1, 9))
    assert list((output / "tensorboard").iterdir())

    done = _command([words[0], words[1], "--resume", *words[2:]], subprocess_environment)
    assert done.returncode == 0, done.stdout + done.stderr
    last = read_checkpoint(list_checkpoints(output)[-1])
    assert last["trainer"]["hooks"]["center"] == {"steps": 12}

    evaluated = _command(
        ["--config-file", output / "config.yaml", "--eval-only", "MODEL.WEIGHTS", output / "best.pt"],
        subprocess_environment,
    )
    assert evaluated.returncode == 0, evaluated.stdout + evaluated.stderr
    assert "classifier" in evaluated.stdout
    scores = json.loads((output / "eval_metrics.json").read_text())["Market1501"]
    assert scores["mAP"] == pytest.approx(max(row["mAP"] for row in rows if "mAP" in row))


def test_two_processes_through_torchrun(market_config, small_run, tmp_path, subprocess_environment):
    """That they compute what one process does is shown in tests/engine/test_step.py."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = _command(["--config-file", market_config, *small_run()], subprocess_environment, launcher)
    assert done.returncode == 0, done.stdout + done.stderr
    content = read_checkpoint(list_checkpoints(tmp_path / "run")[-1])
    assert content["trainer"]["global_iteration"] == 6
    assert len(content["trainer"]["generators"]) == 2
    assert done.stdout.count("written to") == 1  # one process speaks
    assert len(read_json_lines(tmp_path / "run" / "metrics.jsonl")) == 7

    resumed = _command(
        ["--config-file", market_config, "--resume", *small_run(SOLVER__MAX_EPOCHS=3)], subprocess_environment, launcher
    )
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert read_checkpoint(list_checkpoints(tmp_path / "run")[-1])["trainer"]["global_iteration"] == 9


def test_help_shows_an_example(subprocess_environment):
    done = _command(["--help"], subprocess_environment)
    assert done.returncode == 0
    assert "--config-file projects/" in done.stdout


def test_labels_do_not_depend_on_the_hash_seed(market_config, small_run, tmp_path):
    """Sorted, never from a set's order: two interpreters with other hash seeds agree."""
    maps = []
    for seed in ("1", "2"):
        output = tmp_path / seed
        words = small_run(SOLVER__MAX_EPOCHS=1, SOLVER__ITERATIONS_PER_EPOCH=1, OUTPUT_DIR=output)
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
        done = _command(["--config-file", market_config, *words], environment)
        assert done.returncode == 0, done.stdout + done.stderr
        maps.append(read_checkpoint(list_checkpoints(output)[-1]))
    assert maps[0]["data"] == maps[1]["data"]
    for key, value in maps[0]["model"].items():
        assert torch.equal(value, maps[1]["model"][key]), key
