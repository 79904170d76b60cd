import pytest
import torch

from reid_core.config import ConfigError
from reid_core.modeling.heads import BNNeck, BNNeckHeads
from reid_core.structures import ImageFeatures


def _features():
    return ImageFeatures(torch.randn(6, 5), 3 + torch.randn(6, 5), torch.randn(6, 4))


def test_the_necks_bias_stays_at_zero():
    neck = BNNeck(5)
    neck(torch.randn(4, 5)).sum().backward()
    assert neck.bias.grad is None
    assert not neck.bias.any()


def test_training_gives_two_scores_evaluation_one_feature():
    heads, features = BNNeckHeads(5, 4, num_identities=7), _features()
    scores = heads.train()(features)
    assert [tuple(score.shape) for score in scores] == [(6, 7), (6, 7)]
    before = heads.eval()(features)
    torch.testing.assert_close(before, torch.cat([features.last, features.projected], dim=1))
    heads.neck_feature = "after"
    after = heads(features)
    assert after.shape == (6, heads.output_width)
    assert not torch.allclose(before, after)


def test_no_identities_no_classifier():
    heads = BNNeckHeads(5, 4, num_identities=0)
    assert not any("classifier" in name for name in heads.state_dict())


def test_an_unknown_neck_feature():
    with pytest.raises(ConfigError, match="NECK_FEATURE must be 'before' or 'after', got 'middle'"):
        BNNeckHeads(5, 4, 3, neck_feature="middle")


def test_a_single_image_has_no_variance():
    neck = BNNeck(4)
    with pytest.raises(ValueError, match=r"at least 2 images in each process in training, got 1.*BATCH_SIZE"):
        neck.train()(torch.randn(1, 4))
    assert neck.eval()(torch.randn(1, 4)).shape == (1, 4)
