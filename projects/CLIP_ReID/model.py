"""The model of both stages: image encoder with BNNecks and classifiers, and the text side of stage 1."""

from typing import Any

import torch
from torch import Tensor

from reid_core.config import CfgNode, ConfigError
from reid_core.data.datasets import dataset_kind
from reid_core.modeling.clip import build_text_encoder, tokenize_template
from reid_core.modeling.losses import identity_loss
from reid_core.modeling.meta_arch import Baseline
from reid_core.modeling.prompts import IdentityPrompts, PromptedTextEncoder
from reid_core.registry import META_ARCHITECTURE_REGISTRY
from reid_core.structures import METRIC_PREFIX, Batch, ImageFeatures
from reid_core.utils.logging import get_logger


@META_ARCHITECTURE_REGISTRY.register()
class CLIPReID(Baseline):
    """Stage 2's losses: the baseline's + image_to_text_weight * CE(projected @ T.T, targets) (section 3.3, eq. 6 to 8).

    T [C, D], the buffer `text_features`, holds the text feature of every identity; `fix_text_features` fills it from
    `text`, the prompts and the text encoder that stage 1 trains with, and drops `text` unless `keep_text`. text: None
    where there are no identities (evaluation only). arguments: the baseline's.
    """

    identity_bound = (*Baseline.identity_bound, "text.prompts.table", "text_features")
    temporary = ("text.",)

    def __init__(
        self,
        text: PromptedTextEncoder | None,
        image_to_text_weight: float = 1.0,
        keep_text: bool = False,
        **arguments: Any,
    ):
        super().__init__(**arguments)
        self.text, self.image_to_text_weight, self.keep_text = text, image_to_text_weight, keep_text
        if text is not None:
            shape = (text.prompts.num_identities, text.encoder.projected_width)
            self.register_buffer("text_features", torch.zeros(shape))
        self._has_text_features = False  # looked at until they are there, once: looking waits for the device

    def feature_losses(self, features: ImageFeatures, targets: Tensor) -> dict[str, Tensor]:
        losses = super().feature_losses(features, targets)
        self._require_text_features()
        logits = _float_product(features.projected, self.text_features)
        loss = identity_loss(logits, targets, self.label_smoothing)
        losses["loss_image_to_text"] = self.image_to_text_weight * loss
        right = logits.detach().argmax(dim=1) == targets
        losses[f"{METRIC_PREFIX}image_to_all_texts_accuracy"] = right.float().mean()
        return losses

    def shared_space_features(self, batch: Batch) -> Tensor:
        """What stage 1 compares with texts: projected features [B, D], not normalised, without side information."""
        return self.backbone(self.images(batch)).projected

    def forget_text_features(self) -> None:
        """Those of other weights, as another stage 1 begins."""
        self.text_features.zero_()
        self._has_text_features = False

    def fix_text_features(self) -> None:
        """Compute the text features of all identities from the prompts as they are, and drop the text side."""
        self.text_features.copy_(self.text.all_features())
        self.drop_text()

    def drop_text(self) -> None:
        """Let go of the text side, or with `keep_text` keep it untrained."""
        if not self.keep_text:
            self.release_temporary()
        elif self.text is not None:
            self.text.requires_grad_(False)
        else:
            get_logger().warning("CLIP_REID.KEEP_TEXT: there is no text side to keep, the checkpoint had none.")

    def release_temporary(self) -> None:
        self.text = None

    def _require_text_features(self) -> None:
        if not self._has_text_features:
            self._has_text_features = bool(self.text_features.any())
            if not self._has_text_features:
                raise ValueError("There are no text features yet: train the prompts first (TRAINER CLIPReIDTrainer).")

    @classmethod
    def from_config(cls, cfg: CfgNode, num_identities: int, num_cameras: int, num_views: int) -> dict:
        return {
            **super().from_config(cfg, num_identities, num_cameras, num_views),
            "text": build_text_side(cfg, num_identities) if num_identities else None,
            "image_to_text_weight": cfg.CLIP_REID.IMAGE_TO_TEXT_WEIGHT,
            "keep_text": cfg.CLIP_REID.KEEP_TEXT,
        }


def build_text_side(cfg: CfgNode, num_identities: int) -> PromptedTextEncoder:
    """Prompts of CLIP_REID.TEMPLATE for so many identities, and the text tower of the backbone's architecture."""
    architecture = cfg.MODEL.BACKBONE.ARCHITECTURE
    template = tokenize_template(_template(cfg), architecture)
    encoder, vocabulary = build_text_encoder(architecture, cfg.MODEL.BACKBONE.PRETRAINED)
    prompts = IdentityPrompts(template, vocabulary, num_identities)
    return PromptedTextEncoder(prompts, encoder)


def _template(cfg: CfgNode) -> str:
    """CLIP_REID.TEMPLATE, or the published text with the kind of the training datasets (person, vehicle)."""
    if cfg.CLIP_REID.TEMPLATE != "auto":
        return cfg.CLIP_REID.TEMPLATE
    kinds = sorted({dataset_kind(cfg, entry) for entry in cfg.DATASETS.TRAIN})
    if len(kinds) != 1:
        raise ConfigError(
            f"DATASETS.TRAIN {cfg.DATASETS.TRAIN} shows {' and '.join(kinds)}: no one template fits by itself. Set "
            'CLIP_REID.TEMPLATE, for instance to "A photo of a X X X X."'
        )
    return f"A photo of a X X X X {kinds[0]}."


def _float_product(features: Tensor, text_features: Tensor) -> Tensor:
    """Dot products [B, C] in full precision: unnormalised logits in the tens lose their order in 16 bits."""
    with torch.autocast(features.device.type, enabled=False):
        features = features if features.dtype == torch.float64 else features.float()
        return features @ text_features.to(features.dtype).T
