"""Stage 1: the prompts of the identities learn to match the cached features of their images, and no others."""

import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from reid_core.config import ConfigError
from reid_core.data.feature_loader import FeatureLoader
from reid_core.engine.encoding import encode
from reid_core.engine.hooks import Hook
from reid_core.modeling.losses import supervised_contrastive_loss
from reid_core.modeling.meta_arch import MetaArchitecture
from reid_core.modeling.prompts import PromptedTextEncoder
from reid_core.structures import METRIC_PREFIX, Batch
from reid_core.utils import comm
from reid_core.utils.logging import get_logger


class PromptTuning(nn.Module):
    """L = L_i2t + L_t2i: supervised contrastive losses between image and text features (section 3.2, eq. 3 and 4).

    text: prompts and text encoder; of these the prompts' table is trained. temperature: divides the dot products of the
    unnormalised features.
    """

    def __init__(self, text: PromptedTextEncoder, temperature: float = 1.0):
        super().__init__()
        if temperature <= 0:
            raise ConfigError(f"CLIP_REID.TEMPERATURE must be positive, got {temperature}.")
        self.text, self.temperature = text, temperature

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of a batch of cached features; metrics: share of the batch whose nearest other modality is right."""
        images, targets = batch["features"], batch["targets"]
        texts = self.identity_features(batch["identities"])[batch["slots"]]
        losses = {
            "loss_i2t": supervised_contrastive_loss(images, texts, targets, targets, self.temperature),
            "loss_t2i": supervised_contrastive_loss(texts, images, targets, targets, self.temperature),
        }
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):  # near texts would tie in 16 bits
            products = texts.to(images.dtype) @ images.T
            for name, nearest in (("text_to_image", products.argmax(dim=1)), ("image_to_text", products.argmax(dim=0))):
                losses[f"{METRIC_PREFIX}{name}_accuracy"] = (targets[nearest] == targets).float().mean()
        return losses

    def identity_features(self, identities: Tensor) -> Tensor:
        """Text features [U, D] of the batch's distinct identities; each process encodes its share of them."""
        own = self.text(identities[comm.rank() :: comm.world_size()])
        return self.gather_identities(own, len(identities))

    def gather_identities(self, own: Tensor, number: int) -> Tensor:
        """Rows of all identities [number, ...], with gradient, from those of each process: every world_size-th."""
        if not comm.is_distributed():
            return own
        gathered = comm.all_gather_with_gradient(own)
        places = torch.arange(number, device=gathered.device)
        order = torch.cat([places[rank :: comm.world_size()] for rank in range(comm.world_size())])
        return gathered[order.argsort()]


class PromptTuningHook(Hook):
    """Encodes the training images once, before the stage; turns prompts into text features after it.

    batches: all training images with the test transform, this process's share. extract: features of a batch.
    """

    def __init__(
        self,
        loader: FeatureLoader,
        batches: Iterable[Batch],
        extract: Callable[[Batch], Tensor],
        fix_text_features: Callable[[], None],
    ):
        self.loader, self.batches = loader, batches
        self.extract, self.fix_text_features = extract, fix_text_features

    def before_stage(self) -> None:
        trainer = self.trainer
        last_step = (trainer.stage.epochs - 1, trainer.stage.iterations(trainer.epoch))
        if trainer.epoch >= trainer.stage.epochs or (trainer.epoch, trainer.iteration) == last_step:
            return  # stopped at the end of the stage: nothing is left to train
        model: MetaArchitecture = trainer.model
        model.forget_text_features()
        began = time.perf_counter()
        features = encode(model, self.batches, self.extract)
        self.loader.set_features(features.to(model.device))
        get_logger().info(f"Encoded {len(features)} training images in {time.perf_counter() - began:.1f} s.")

    def after_stage(self) -> None:
        self.fix_text_features()
