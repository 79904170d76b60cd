import pytest
import torch

from reid_core.utils.events import MetricBuffer


def test_means_since_the_last_read():
    buffer = MetricBuffer()
    buffer.put({"loss": torch.tensor(1.0, requires_grad=True), "lr": 0.5})
    buffer.put({"loss": torch.tensor(3.0), "other": 2})
    assert buffer.read() == pytest.approx({"loss": 2.0, "lr": 0.5, "other": 2.0})
    assert buffer.read() == {}
