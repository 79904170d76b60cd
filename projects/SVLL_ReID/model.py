"""Stage 2 with vision self-supervision: two more views of each image must find each other."""

from typing import Any

import torch
from torch import Tensor, nn

from projects.CLIP_ReID import CLIPReID
from reid_core.config import CfgNode, ConfigError
from reid_core.modeling.heads import Predictor, Projector
from reid_core.modeling.losses import simclr_loss, simsiam_loss
from reid_core.registry import META_ARCHITECTURE_REGISTRY
from reid_core.structures import Batch, ImageFeatures

VISION_LOSSES = ("simclr", "simsiam")


@META_ARCHITECTURE_REGISTRY.register()
class SVLLReID(CLIPReID):
    """CLIP-ReID's losses on the plain view + vision_weight * a self-supervised loss of the two others (section 3.3).

    The other views are encoded without side information. image_head: a Projector for "simclr" or a Predictor for
    "simsiam" on their `last` features; None: no vision term (then batches hold `images`). text_projector: what stage 1
    projects augmented prompts with; None: no language term. arguments: CLIPReID's.
    """

    temporary = (*CLIPReID.temporary, "text_projector.")
    training_only = ("image_head.",)

    def __init__(
        self,
        text_projector: Projector | None,
        image_head: Projector | None,
        vision_loss: str = "simclr",
        vision_weight: float = 0.8,
        vision_temperature: float = 0.1,
        **arguments: Any,
    ):
        super().__init__(**arguments)
        if vision_loss not in VISION_LOSSES:
            raise ConfigError(f"SVLL.VISION_LOSS must be one of {', '.join(VISION_LOSSES)}, got '{vision_loss}'.")
        if vision_temperature <= 0:
            raise ConfigError(f"SVLL.TEMPERATURE must be positive, got {vision_temperature}.")
        self.text_projector, self.image_head = text_projector, image_head
        self.vision_loss, self.vision_weight, self.vision_temperature = vision_loss, vision_weight, vision_temperature
        # Batch norms inside the image encoder would see all views together: a ResNet takes them one by one.
        norms = (module for module in self.backbone.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
        self._views_in_one_pass = next(norms, None) is None

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        if self.image_head is None:
            return super().losses(batch)
        views = batch["views"]
        if views.shape[1] != 3:
            raise ValueError(f"The vision term takes 3 views of each image, got {views.shape[1]}: INPUT.EXTRA_VIEWS 2.")
        plain, first, second = self._encode_views(views, batch.get("camids"), batch.get("viewids"))
        losses = self.feature_losses(plain, batch["targets"])
        losses["loss_vision"] = self.vision_weight * self._vision_loss(first.last, second.last)
        return losses

    def release_temporary(self) -> None:
        super().release_temporary()
        self.text_projector = None

    def _encode_views(self, views: Tensor, camids: Tensor | None, viewids: Tensor | None) -> list[ImageFeatures]:
        """Features of each view; [B, 3, 3, H, W]. Side information goes to the first alone."""
        numbers = {"camids": camids, "viewids": viewids}
        if not self._views_in_one_pass:
            plain, *others = (self.normalise(view) for view in views.unbind(dim=1))
            return [self.backbone(plain, **numbers), *(self.backbone(view) for view in others)]
        unknown = {name: _unknown_behind(known, len(views)) for name, known in numbers.items() if known is not None}
        images = self.normalise(views.transpose(0, 1).flatten(0, 1))
        parts = (feature.split(len(views)) for feature in self.backbone(images, **unknown))
        return [ImageFeatures(*features) for features in zip(*parts, strict=True)]

    def _vision_loss(self, first: Tensor, second: Tensor) -> Tensor:
        embedded = self.image_head.project_views(first, second)
        if self.vision_loss == "simsiam":
            return simsiam_loss(*embedded, first, second)
        return simclr_loss(*embedded, self.vision_temperature, equal=True)

    @classmethod
    def from_config(cls, cfg: CfgNode, num_identities: int, num_cameras: int, num_views: int) -> dict:
        arguments = super().from_config(cfg, num_identities, num_cameras, num_views)
        options, trained = cfg.SVLL, num_identities > 0
        _check_views(cfg)
        for key in ("PROJECTOR_HIDDEN_WIDTH", "PROJECTOR_OUTPUT_WIDTH", "PREDICTOR_HIDDEN_WIDTH"):
            if options[key] < 1:
                raise ConfigError(f"SVLL.{key} must be positive, got {options[key]}.")
        hidden, output = options.PROJECTOR_HIDDEN_WIDTH, options.PROJECTOR_OUTPUT_WIDTH
        widths, text_projector, image_head = arguments["backbone"].widths, None, None
        if trained and options.LANGUAGE_TERM:
            text_projector = Projector(widths.projected, hidden, output)
            text_projector.requires_grad_(options.TRAIN_TEXT_PROJECTOR)
        if trained and options.VISION_TERM:
            image_head = (
                Predictor(widths.last, options.PREDICTOR_HIDDEN_WIDTH)
                if options.VISION_LOSS == "simsiam"
                else Projector(widths.last, hidden, output)
            )
        return {
            **arguments,
            "text_projector": text_projector,
            "image_head": image_head,
            "vision_loss": options.VISION_LOSS,
            "vision_weight": options.VISION_WEIGHT,
            "vision_temperature": options.TEMPERATURE,
        }


def _unknown_behind(numbers: Tensor, count: int) -> Tensor:
    """Camera or viewpoint numbers [B] of the plain views, and "unknown" for the two others of each: [3 B]."""
    return torch.cat([numbers, numbers.new_full((2 * count,), -1)])


def _check_views(cfg: CfgNode) -> None:
    """The vision term and the loader's views must be switched together."""
    needed = 2 if cfg.SVLL.VISION_TERM else 0
    if needed != cfg.INPUT.EXTRA_VIEWS:
        raise ConfigError(
            f"SVLL.VISION_TERM {cfg.SVLL.VISION_TERM} needs INPUT.EXTRA_VIEWS {needed}, got {cfg.INPUT.EXTRA_VIEWS}."
        )
