import pytest
import torch
from torch.nn import functional as F

from reid_core.modeling.heads import Predictor, Projector


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_layers_one_by_one(num_layers):
    torch.manual_seed(0)
    projector, features = Projector(5, 7, 3, num_layers), torch.randn(6, 5)
    state = projector.state_dict()
    expected = features
    for number in range(1, num_layers + 1):
        expected = expected @ state[f"linear{number}.weight"].T + state[f"linear{number}.bias"]
        if number < num_layers:
            expected = F.relu((expected - expected.mean(0)) / (expected.var(0, unbiased=False) + 1e-5).sqrt())
    torch.testing.assert_close(projector(features), expected, rtol=1e-4, atol=1e-5)
    assert expected.shape == (6, projector.output_width)


def test_predictor_returns_to_the_width_through_a_narrow_layer():
    predictor = Predictor(8, 2)
    assert predictor(torch.randn(4, 8)).shape == (4, 8) and predictor.output_width == 8
    names = {name.partition(".")[0] for name, _ in predictor.named_parameters()}
    assert names == {"linear1", "bn1", "linear2"} and predictor.linear1.out_features == 2


def test_each_view_is_normalised_alone():
    torch.manual_seed(0)
    projector, first, second = Projector(5, 7, 3), torch.randn(4, 5), 2 + torch.randn(6, 5)
    together = [view.detach() for view in projector.project_views(first, second)]
    assert projector.bn1.num_batches_tracked == 2
    assert torch.equal(together[0], projector(first)) and torch.equal(together[1], projector(second))
    assert not torch.allclose(torch.cat(together), projector(torch.cat([first, second])), atol=1e-3)


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_to_normalise_are_refused_in_training_only(rows):
    with pytest.raises(ValueError, match=f"Projector normalises.* at least 2 rows in training, got {rows}. Make"):
        Projector(5, 7, 3)(torch.randn(rows, 5))
    assert Projector(5, 7, 3).eval()(torch.randn(rows, 5)).shape == (rows, 3)
    assert Projector(5, 7, 3, num_layers=1)(torch.randn(rows, 5)).shape == (rows, 3)  # no batch norm
    with pytest.raises(ValueError, match="num_layers must be positive, got 0"):
        Projector(5, 7, 3, num_layers=0)
