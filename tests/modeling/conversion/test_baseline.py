"""Sizes that are read off the shared names: identities, side information, patch stride."""

import pytest
import torch

from reid_core.modeling.conversion import BaselineConverter, ConversionError
from reid_core.projects import load_config

SIE = {"camera": "MODEL__BACKBONE__SIE_CAMERA", "view": "MODEL__BACKBONE__SIE_VIEW"}


@pytest.fixture
def sizes(small_run):
    def read(state, num_cameras=0, num_views=0, **more):
        return BaselineConverter().sizes(state, load_config(None, small_run(**more)), num_cameras, num_views)

    return read


def _table(rows):
    return {"backbone.cv_embed": torch.zeros(rows, 4)}


def test_names():
    ours = BaselineConverter().our_name
    assert ours("image_encoder.conv1.weight") == "backbone.visual.conv1.weight"
    assert ours("bottleneck_proj.running_mean") == "heads.bottleneck_proj.running_mean"
    assert ours("classifier.weight") == "heads.classifier.weight"
    assert ours("cv_embed") == "backbone.cv_embed"
    assert ours("text_encoder.ln_final.bias") is None
    assert ours("xclassifier.weight") is None


def test_identities(sizes):
    both = {"heads.classifier.weight": torch.zeros(7, 2), "heads.classifier_proj.weight": torch.zeros(7, 3)}
    assert sizes(both).num_identities == 7
    assert sizes({}).num_identities == 0
    with pytest.raises(ConversionError, match=r"classifier\.weight has 7, heads\.classifier_proj\.weight has 8"):
        sizes({**both, "heads.classifier_proj.weight": torch.zeros(8, 3)})


@pytest.mark.parametrize(
    ("switched_on", "given", "expected"),
    [
        (["camera"], {}, (12, 1)),
        (["view"], {}, (1, 12)),
        (["camera", "view"], {"num_cameras": 4}, (4, 3)),
        (["camera", "view"], {"num_views": 2}, (6, 2)),
        (["camera", "view"], {"num_cameras": 4, "num_views": 3}, (4, 3)),
    ],
)
def test_side_information(sizes, switched_on, given, expected):
    found = sizes(_table(12), **given, **{SIE[name]: True for name in switched_on})
    assert (found.num_cameras, found.num_views) == expected


@pytest.mark.parametrize(
    ("rows", "switched_on", "given", "message"),
    [
        (12, [], {}, r"cv_embed, 12 rows\) and the config has none: set MODEL\.BACKBONE\.SIE_CAMERA True"),
        (0, ["camera"], {}, r"no side information \(cv_embed\), but MODEL\.BACKBONE\.SIE_CAMERA is on"),
        (0, ["view"], {}, r"MODEL\.BACKBONE\.SIE_VIEW is on"),
        (12, ["camera", "view"], {}, "--num-cameras or --num-views"),
        (12, ["camera", "view"], {"num_cameras": 5}, "12 rows, which 5 cameras and any number of viewpoints"),
        (12, ["camera", "view"], {"num_cameras": 4, "num_views": 4}, "4 cameras and 4 viewpoints do not give"),
        (12, ["camera"], {"num_cameras": 8}, "12 rows, which 8 cameras"),
    ],
)
def test_side_information_that_does_not_fit(sizes, rows, switched_on, given, message):
    with pytest.raises(ConversionError, match=message):
        sizes(_table(rows) if rows else {}, **given, **{SIE[name]: True for name in switched_on})


@pytest.mark.parametrize(
    ("configured", "cells", "expected"),
    [(0, 128, None), (16, 128, None), (12, 210, None), (0, 210, 12), (12, 128, 0), (0, 31 * 15, 8)],
)
def test_the_patch_stride_is_read_off_the_position_table(sizes, configured, cells, expected):
    table = {"backbone.visual.positional_embedding": torch.zeros(1 + cells, 4)}
    size = {"INPUT__SIZE_TRAIN": "[256, 128]", "MODEL__BACKBONE__PATCH_STRIDE": configured}
    changes = sizes(table, **size).changes
    assert {key: value for key, (value, _) in changes.items()} == (
        {} if expected is None else {"MODEL.BACKBONE.PATCH_STRIDE": expected}
    )


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (196, r"196 cells, which INPUT\.SIZE_TRAIN \[256, 128\] does not give .* that do: \[224, 224\]\. Convert at"),
        (441, r"that do: \[256, 256\] with MODEL\.BACKBONE\.PATCH_STRIDE 12\."),
        (131, r"whatever the stride\. Convert at the size of the training"),
    ],
)
def test_a_position_table_of_another_input_size(sizes, cells, message):
    table = {"backbone.visual.positional_embedding": torch.zeros(1 + cells, 4)}
    with pytest.raises(ConversionError, match=message):
        sizes(table, INPUT__SIZE_TRAIN="[256, 128]")


def test_the_map_of_a_resnet(sizes):
    table = {"backbone.visual.attnpool.positional_embedding": torch.zeros(129, 4)}
    resnet = {"MODEL__BACKBONE__ARCHITECTURE": "RN50-quickgelu"}
    assert not sizes(table, INPUT__SIZE_TRAIN="[256, 128]", **resnet).changes
    with pytest.raises(ConversionError, match=r"that do: \[256, 128\]\."):
        sizes(table, INPUT__SIZE_TRAIN="[384, 128]", **resnet)
