"""Small multilayer perceptrons between a backbone's features and a self-supervised loss."""

from collections import OrderedDict
from itertools import pairwise

from torch import Tensor, nn


class Projector(nn.Sequential):
    """Linear - BatchNorm - ReLU, num_layers - 1 times, then Linear (Chen et al. 2020, section 2.1).

    [B, width] float -> [B, output_width]. Its parts are named linear1, bn1, relu1, linear2 ... Raises ValueError for
    fewer than two rows in training: they have no variance that the batch norm could divide by.
    """

    def __init__(self, width: int, hidden_width: int = 4096, output_width: int = 256, num_layers: int = 3):
        if num_layers < 1:
            raise ValueError(f"num_layers must be positive, got {num_layers}.")
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        widths = [width, *[hidden_width] * (num_layers - 1), output_width]
        for number, (before, after) in enumerate(pairwise(widths), start=1):
            layers[f"linear{number}"] = nn.Linear(before, after)
            if number < num_layers:
                layers[f"bn{number}"] = nn.BatchNorm1d(after)
                layers[f"relu{number}"] = nn.ReLU()
        super().__init__(layers)
        self.output_width = output_width

    def forward(self, features: Tensor) -> Tensor:
        if self.training and len(features) < 2 and len(self) > 1:
            raise ValueError(
                f"{type(self).__name__} normalises over the batch and needs at least 2 rows in training, got "
                f"{len(features)}. Make the batches of each process larger, or leave the loss of this batch out (the "
                "contrastive loss of a single item is 0 anyway)."
            )
        return super().forward(features)

    def project_views(self, *views: Tensor) -> list[Tensor]:
        """Several views, each [B, width], one after the other: the batch norm sees each alone."""
        return [self(view) for view in views]


class Predictor(Projector):
    """Linear - BatchNorm - ReLU - Linear back to the same width (Chen and He 2021): [B, width] -> [B, width]."""

    def __init__(self, width: int, hidden_width: int = 512):
        super().__init__(width, hidden_width, width, num_layers=2)
