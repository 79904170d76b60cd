"""A trained model in use: features of images, similarities of features."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from reid_core.config import CfgNode
from reid_core.data.transforms import build_transforms, split_resize
from reid_core.inference.inputs import Images, SingleImage, decode, prepared_batches, single_images
from reid_core.modeling.meta_arch import MetaArchitecture
from reid_core.modeling.precision import convert_weights, encoding_dtype
from reid_core.structures import Batch
from reid_core.utils.logging import get_logger

_BATCH_SIZES = {"cpu": 16}  # more does not pay: benchmarks/encoding.py
_BATCH_SIZE = 256  # of an accelerator
_PROGRESS_AFTER = 3.0  # seconds


class ReIDModel:
    """What `reid_core.load` returns: a model that encodes images as its evaluation does.

    model: on its device. cfg: the config that it was trained with, whose test transforms images go through.
    camera_offsets: where the cameras of each training dataset begin in the model's numbering. precision: "float32"
    (evaluation's), "bfloat16", "float16", or "auto" for what the device multiplies natively; 16 bits convert the
    weights of `model`. Not to be called by several threads at once.
    """

    def __init__(
        self,
        model: MetaArchitecture,
        cfg: CfgNode,
        camera_offsets: dict[str, int] | None = None,
        precision: str = "float32",
    ):
        """Raises ValueError for another precision."""
        self.model, self.cfg, self.camera_offsets = model.eval(), cfg, dict(camera_offsets or {})
        self.dtype = encoding_dtype(precision, model.device)
        if self.dtype is not None:
            convert_weights(model, self.dtype)
        self._transform = build_transforms(cfg, train=False)
        resize, _ = split_resize(self._transform)
        scaled = resize is not None and cfg.INPUT.SCALED_DECODING_TEST
        self._at_least = tuple(resize.size) if scaled else None
        self._told_of_side_information = False

    @property
    def device(self) -> torch.device:
        return self.model.device

    def encode(
        self,
        images: Images,
        camids: Sequence[int] | None = None,
        viewids: Sequence[int] | None = None,
        batch_size: int | None = None,
        flip: bool = False,
        num_workers: int = 4,
        progress: bool | None = None,
    ) -> np.ndarray | Tensor:
        """Features of unit length, float32 [N, D], in the order of the images; N is 1 for a single one.

        images: a path, a folder (all images below it, sorted by path), a Pillow image, a NumPy array uint8 [H, W, 3] or
        [B, H, W, 3], a tensor uint8 [3, H, W] or [B, 3, H, W], RGB; or any iterable of these, which is read as it is
        encoded. Sizes may differ. Tensors give a tensor on the device of the first, all else gives an array.

        camids, viewids: a camera and viewpoint for each image in the model's numbering (`camera_offsets` + the
        dataset's own), -1 for unknown, for a model with side information. batch_size: None for one that suits the
        device. flip: features of each image and of its mirror image are added. num_workers: threads that decode.
        progress: show a bar; None: only on a terminal, when it takes a while.

        Raises TypeError or ValueError for what is no image and for numbers that do not fit, FileNotFoundError or
        OSError naming the file that is missing or cannot be decoded.
        """
        if batch_size is None:
            batch_size = _BATCH_SIZES.get(self.device.type, _BATCH_SIZE)
        if batch_size < 1 or num_workers < 0:
            raise ValueError(f"batch_size must be positive and num_workers not negative: {batch_size}, {num_workers}.")
        numbers = self._side_information(camids, viewids)
        kinds: list[torch.device | None] = []
        features: list[Tensor] = []
        count = 0
        batches = prepared_batches(_noting_kinds(images, kinds), self._prepare, batch_size, num_workers)
        with _bar(images, progress) as bar:
            for group in batches:
                side = _side_of(numbers, count, len(group))
                features.append(self._features(Batch(images=_stacked(group, count), **side), flip, count))
                count += len(group)
                bar.update(len(group))
        if not count:
            raise ValueError("There are no images to encode: the list, array or iterator is empty.")
        for name, column in numbers.items():
            if len(column) != count:
                raise ValueError(f"{name} must have one number for each of the {count} images, got {len(column)}.")
        found = torch.cat(features)
        tensors = [kind for kind in kinds if kind is not None]
        if tensors and len(tensors) < len(kinds):
            raise TypeError(
                "Tensors cannot be mixed with other images: they ask for a tensor, the others for an array."
            )
        return found.to(tensors[0]) if tensors else found.numpy()

    def similarity(self, a: np.ndarray | Tensor, b: np.ndarray | Tensor) -> np.ndarray | Tensor:
        """Cosine similarities [A, B] of features [A, D] and [B, D]; a tensor if both are, else an array.

        Raises ValueError for shapes that do not fit.
        """
        tensors = [side if isinstance(side, Tensor) else torch.as_tensor(np.asarray(side)) for side in (a, b)]
        if any(side.ndim != 2 for side in tensors) or tensors[0].shape[1] != tensors[1].shape[1]:
            shapes = " and ".join(str(list(side.shape)) for side in tensors)
            raise ValueError(f"Features to compare must be matrices [images, width] of one width, got {shapes}.")
        first, second = (F.normalize(side.float(), dim=1) for side in tensors)
        cosines = first @ second.to(first.device).T
        return cosines if isinstance(a, Tensor) and isinstance(b, Tensor) else cosines.cpu().numpy()

    def _prepare(self, image: SingleImage) -> Tensor:
        return self._transform(decode(image, self._at_least))

    @torch.inference_mode()
    def _features(self, batch: Batch, flip: bool, first: int) -> Tensor:
        """Unit-length features of a batch, float32 on the CPU. first: the number of its first image, for messages."""
        batch = {name: column.to(self.device) for name, column in batch.items()}
        precision = torch.autocast(self.device.type, self.dtype) if self.dtype else nullcontext()
        with precision:
            features = self.model(batch).float()
            if flip:
                features = features + self.model({**batch, "images": batch["images"].flip(-1)}).float()
        unit = F.normalize(features, dim=1).cpu()
        bad = ~unit.isfinite().all(dim=1)
        if bad.any():
            raise ValueError(
                f"The features of image {first + int(bad.nonzero()[0])} hold NaN or infinite values: the weights are "
                "damaged, or 16 bits are not enough for them (precision 'float32')."
            )
        return unit

    def _side_information(self, camids: Sequence[int] | None, viewids: Sequence[int] | None) -> dict[str, Tensor]:
        """The given numbers, int64 [N] each, checked against the model's tables."""
        numbers = {}
        for name, given, known in zip(
            ("camids", "viewids"), (camids, viewids), self.model.side_information, strict=True
        ):
            if given is None:
                continue
            if not known:
                raise ValueError(f"The model was trained without embeddings for {name}; leave them out.")
            column = numbers[name] = torch.as_tensor(given, dtype=torch.int64).cpu().flatten()
            wrong = column[(column < -1) | (column >= known)]
            if len(wrong):
                raise ValueError(f"{name} holds {int(wrong[0])}, the model knows 0 to {known - 1}, and -1 for unknown.")
        if any(self.model.side_information) and not numbers and not self._told_of_side_information:
            self._told_of_side_information = True
            get_logger().warning(
                "The model was trained with side information (%d cameras, %d viewpoints): without camids and viewids "
                "images are encoded without that embedding.",
                *self.model.side_information,
            )
        return numbers


def _noting_kinds(images: Images, kinds: list[torch.device | None]) -> Iterator[SingleImage]:
    """The single images; the distinct devices of tensors, and None for all else, are put into `kinds`."""
    for image in single_images(images):
        kind = image.device if isinstance(image, Tensor) else None
        if kind not in kinds:
            kinds.append(kind)
        yield image


def _side_of(numbers: dict[str, Tensor], first: int, count: int) -> dict[str, Tensor]:
    """The part of the numbers that belongs to a batch."""
    side = {name: column[first : first + count] for name, column in numbers.items()}
    for name, column in side.items():
        if len(column) != count:
            raise ValueError(f"{name} has {len(numbers[name])} numbers, but there are more images.")
    return side


def _stacked(images: list[Tensor], first: int) -> Tensor:
    """[B, 3, H, W]. Raises ValueError if the test transforms leave images of different sizes."""
    for number, image in enumerate(images):
        if image.shape != images[0].shape:
            raise ValueError(
                f"Images {first} and {first + number} have different sizes, {list(images[0].shape)} and "
                f"{list(image.shape)}: INPUT.TEST_TRANSFORMS of the model's config has no Resize."
            )
    return torch.stack(images)


def _bar(images: Images, progress: bool | None) -> tqdm:
    total = len(images) if isinstance(images, list | tuple) else None
    delay = 0.0 if progress else _PROGRESS_AFTER
    disable = None if progress is None else not progress  # None: off where the output is no terminal
    return tqdm(total=total, desc="encoding", unit="image", delay=delay, disable=disable)
