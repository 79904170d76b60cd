"""The contract of a meta-architecture."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reid_core.structures import Batch


class MetaArchitecture(nn.Module):
    """Base of all models: in training a batch gives named losses, in evaluation it gives features.

    A subclass writes `losses` and `features`. It owns a backbone and heads; it knows no loader, optimiser or epoch.
    pixel_mean, pixel_std: three numbers each, of pixel values in [0, 1].
    """

    identity_bound: tuple[str, ...] = ()
    """Leading parts of the names of parameters and buffers that belong to the training identities (classifiers,
    prototypes). They are left out where a checkpoint's identities are not the model's own."""

    temporary: tuple[str, ...] = ()
    """Leading parts of the names of what only an early stage of training needs (a text encoder). The last stage does
    not train them, and a checkpoint need not hold them."""

    training_only: tuple[str, ...] = ()
    """Leading parts of the names of what the test features do not need (a projector of a self-supervised loss). A model
    built for evaluation has none of them, and a checkpoint's are left out there."""

    def __init__(self, pixel_mean: Sequence[float], pixel_std: Sequence[float]):
        super().__init__()
        shape = (1, 3, 1, 1)
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(shape) * 255, persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(shape) * 255, persistent=False)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    @property
    def side_information(self) -> tuple[int, int]:
        """Cameras and viewpoints that the backbone has embeddings for; 0 for what it does not use."""
        backbone = getattr(self, "backbone", None)
        return getattr(backbone, "num_cameras", 0), getattr(backbone, "num_views", 0)

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> float32 with the model's pixel statistics; float images are returned as they are."""
        if images.dtype == torch.uint8:
            return (images.float() - self.pixel_mean) / self.pixel_std
        return images

    def images(self, batch: Batch) -> Tensor:
        """The batch's images, normalised, float [B, 3, H, W]; of several views of each the first, the plain one."""
        return self.normalise(batch["images"] if "images" in batch else batch["views"][:, 0])

    def forward(self, batch: Batch) -> dict[str, Tensor] | Tensor:
        """Training: named, already weighted losses (scalars). Evaluation: features float [B, D]."""
        if self.training:
            return self.losses(batch)
        return self.features(batch)

    def release_temporary(self) -> None:
        """Drop the `temporary` parts, whose work is done; a model that names some has to say how."""
        if self.temporary:
            raise TypeError(f"{type(self).__name__} names {self.temporary} but does not define release_temporary().")

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named, weighted, scalar losses of a training batch; "metric/<name>" for what is only logged."""
        raise TypeError(f"{type(self).__name__} does not define losses(batch).")

    def features(self, batch: Batch) -> Tensor:
        """Test features [B, D] float of a batch; `camids` and `viewids` may be missing."""
        raise TypeError(f"{type(self).__name__} does not define features(batch).")
