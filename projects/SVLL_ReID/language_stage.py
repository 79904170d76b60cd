"""Stage 1 with language self-supervision: two augmented versions of each identity's prompt must find each other."""

import torch
from torch import Tensor

from projects.CLIP_ReID import PromptTuning
from projects.SVLL_ReID.prompt_augmentation import PROMPT_AUGMENTATION_REGISTRY, check_scale
from reid_core.engine.hooks import Hook
from reid_core.modeling.heads import Projector
from reid_core.modeling.losses import simclr_loss
from reid_core.modeling.prompts import PromptedTextEncoder
from reid_core.structures import Batch
from reid_core.utils import comm
from reid_core.utils.logging import get_logger


class PromptAugmenter(Hook):
    """Augments embedded prompts with random numbers of its own, which checkpoints keep.

    name: a registered augmentation. scale: its strength, in [0, 1]. seed, device: of the generator; equal in all
    processes, so that they draw the same.
    """

    def __init__(self, name: str, scale: float, seed: int, device: torch.device | str = "cpu"):
        check_scale(scale)
        self.augmentation, self.scale = PROMPT_AUGMENTATION_REGISTRY.get(name), scale
        self.generator = torch.Generator(device).manual_seed(seed)

    def __call__(self, prompts: Tensor, length: int) -> Tensor:
        """Prompts [U, L, W] -> augmented, their first `length` tokens: [U, length, W]."""
        return self.augmentation(prompts, self.scale, self.generator, length)

    def state_dict(self) -> dict:
        return {"device": self.generator.device.type, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict) -> None:
        if state["device"] != self.generator.device.type:
            get_logger().warning(
                f"Prompts were augmented by a generator on {state['device']}, this run has {self.generator.device}: "
                "the augmentation starts afresh."
            )
            return
        self.generator.set_state(state["generator"])


class LanguageSupervisedPromptTuning(PromptTuning):
    """L = L_i2t + L_t2i + language_weight * SimCLR of two augmented versions of the batch's distinct prompts (eq. 6).

    projector: between text features and the contrastive loss; trained only if its parameters require a gradient, its
    batch norms see one version after the other. augmenter: embedded prompts [U, L, W], number of tokens to keep ->
    augmented prompts. language_temperature: divides the cosine similarities. A batch of one identity has no language
    term: there is nothing to tell its prompt from.
    """

    def __init__(
        self,
        text: PromptedTextEncoder,
        projector: Projector,
        augmenter: PromptAugmenter,
        temperature: float = 1.0,
        language_weight: float = 0.8,
        language_temperature: float = 0.1,
    ):
        super().__init__(text, temperature)
        self.text_projector, self.augmenter = projector, augmenter
        self.language_weight, self.language_temperature = language_weight, language_temperature

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        losses = super().forward(batch)
        identities = batch["identities"]
        if len(identities) < 2:
            return {**losses, "loss_language": losses["loss_i2t"].new_zeros(())}
        prompts = self.text.prompts(identities)
        versions = [self.augmenter(prompts, self.text.num_read_tokens) for _ in range(2)]
        first, second = self._encode(torch.stack(versions, dim=1)).unbind(dim=1)
        projected = self.text_projector.project_views(first, second)
        # Every process has the rows of all: the projector's batch norms then see the batch that one process would.
        loss = simclr_loss(*projected, self.language_temperature, gather=False)
        return {**losses, "loss_language": self.language_weight * loss}

    def _encode(self, versions: Tensor) -> Tensor:
        """[U, 2, n, W] -> text features [U, 2, D]; each process encodes its share of the identities."""
        own = versions[comm.rank() :: comm.world_size()]
        features = self.text.encode(own.flatten(0, 1)).unflatten(0, (len(own), 2))
        return self.gather_identities(features, len(versions))
