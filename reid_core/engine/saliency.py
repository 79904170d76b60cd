"""Maps over images of what makes their test features, by the kind of the model's backbone."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reid_core.engine.encoding import encode
from reid_core.modeling.clip import AdaptedModifiedResNet
from reid_core.modeling.meta_arch import MetaArchitecture
from reid_core.structures import Batch

ROLLOUT, LAST, GRAD_CAM, POOL = "attention rollout", "attention, last block", "Grad-CAM", "attention pool"


def saliency_maps(model: MetaArchitecture, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """Maps by their names, float32 [N, h, w] each, in the order of the batches' `indices`.

    Of a ViT: attention rollout, and the last block's attention. Of a ModifiedResNet: Grad-CAM of the feature's length,
    and the attention pool's weights. Raises ValueError for another backbone.
    """
    backbone = getattr(model, "backbone", None)
    if not hasattr(backbone, "forward_attention"):
        raise ValueError(
            f"The backbone {type(backbone).__name__} of {type(model).__name__} has no attention to show; that of "
            "CLIPImageBackbone can be shown."
        )
    is_resnet = isinstance(backbone.visual, AdaptedModifiedResNet)

    def extract(batch: Batch) -> Tensor:
        attention = backbone.forward_attention(model.images(batch), batch.get("camids"), batch.get("viewids"))
        maps = (grad_cam(model, backbone.visual.layer4, batch), attention.last) if is_resnet else attention
        return torch.stack(list(maps), dim=1).flatten(1)

    found = encode(model, batches, extract).unflatten(1, (2, *backbone.visual.grid))
    return dict(zip((GRAD_CAM, POOL) if is_resnet else (ROLLOUT, LAST), found.unbind(1), strict=True))


def grad_cam(model: MetaArchitecture, layer: nn.Module, batch: Batch) -> Tensor:
    """What each place of a layer's maps adds to the length of the image's test feature, at least 0: float32 [B, h, w].

    The target is <f, f / |f|> with the second factor held fixed: the feature's similarity to itself, along its own
    direction. (The cosine with itself has no gradient: it is at its largest.) The map is ReLU(sum over the channels of
    gradient * activation): Grad-CAM (Selvaraju et al. 2017) without its mean of the gradient over the places (HiResCAM,
    Draelos & Carin 2020), which would light up places that an attention pool does not read. Where the feature is a mean
    over the places, both are the same but for a factor.

    model: in evaluation mode; a batch's images must not influence each other's features. layer: a submodule whose
    output is [B, C, h, w], called once in a forward pass. Raises ValueError in training mode and for another layer.
    """
    if model.training:
        raise ValueError("Grad-CAM is that of evaluation: call eval() on the model first.")
    activations: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        activations.append(output.detach().requires_grad_())  # nothing before the layer needs a gradient
        return activations[-1]

    hook = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            features = model(batch).float()
            if len(activations) != 1 or activations[0].dim() != 4:
                raise ValueError(
                    f"Grad-CAM needs a layer that gives one map [B, C, h, w]; {type(layer).__name__} does not."
                )
            length = (features * F.normalize(features.detach(), dim=1)).sum()
            gradient = torch.autograd.grad(length, activations[0])[0]
    finally:
        hook.remove()
    return (gradient * activations[0].detach()).float().sum(dim=1).relu()
