"""The pictures that the page shows: small copies of images, and attention over them."""

import io

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from reid_core.data.images import read_image
from reid_core.data.transforms import build_transforms
from reid_core.inference.inputs import decode
from reid_core.inference.model import ReIDModel
from reid_core.inference.search_page.gallery_features import SideInformation

_BOX = (256, 320)  # largest width and height, twice the size on the page: sharp on dense screens


def small_image(source: str | Image.Image) -> Image.Image:
    """The image of a file, or an image, within the page's box; smaller ones as they are. Always RGB.

    Raises OSError for a file that is gone or cannot be decoded.
    """
    if isinstance(source, str):
        source = Image.fromarray(read_image(source, at_least=_BOX[::-1]).permute(1, 2, 0).numpy())
    small = source.copy()
    small.thumbnail(_BOX)
    return small


def as_jpeg(image: Image.Image) -> bytes:
    """Encoded anew, so that nothing but pixels of the file goes out."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def shows_attention(model: ReIDModel) -> bool:
    """Whether the model's backbone can tell where it looks (CLIP's towers can)."""
    return hasattr(getattr(model.model, "backbone", None), "forward_attention")


def attention_picture(model: ReIDModel, source: str | Image.Image, side: SideInformation) -> bytes:
    """A PNG: the small image in grey, under the attention rollout of the feature's token.

    side: one number each, or None. Colours reach from the smallest to the largest share of this picture. Raises
    ValueError for a backbone without such attention, OSError as `small_image`.
    """
    pixels = read_image(source) if isinstance(source, str) else decode(source)
    prepared = build_transforms(model.cfg, train=False)(pixels)[None].to(model.device)
    numbers = [None if numbers is None else torch.tensor(numbers, device=model.device) for numbers in side]
    with torch.inference_mode(), torch.autocast(model.device.type, model.dtype, enabled=model.dtype is not None):
        maps = model.model.backbone.forward_attention(model.model.normalise(prepared), *numbers)
    picture = overlay(small_image(source), maps.rollout[0].float().cpu())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def overlay(image: Image.Image, attention: Tensor) -> Image.Image:
    """The image's brightness under colours from clear (least attention) to dark red (most). attention: [h, w]."""
    spread = attention.max() - attention.min()
    stretched = (attention - attention.min()) / (spread if spread > 0 else 1)
    size = (image.height, image.width)
    shares = F.interpolate(stretched[None, None], size, mode="bilinear", align_corners=False)[0, 0].numpy()
    grey = 60 + np.asarray(image.convert("L"), dtype=np.float32)[..., None] * (195 / 255)  # no black: it hides the red
    opacity = 0.85 * shares[..., None]
    colors = colormaps["YlOrRd"](shares)[..., :3] * 255
    return Image.fromarray((opacity * colors + (1 - opacity) * grey).round().astype(np.uint8))
