"""The types that the layers share: one image's record, the keys of a batch, the features of an encoder."""

from typing import NamedTuple, TypedDict

from torch import Tensor

METRIC_PREFIX = "metric/"
"""In training a module returns losses by name; entries whose names begin so are only logged."""


class ReIDImage(NamedTuple):
    """One image of a dataset.

    pid: the identity's number as the dataset's files give it (not a training label); -1 marks junk.
    camid: camera, counted from 0. viewid: viewpoint, counted from 0; 0 where the dataset has none.
    """

    path: str
    pid: int
    camid: int
    viewid: int = 0


class Batch(TypedDict, total=False):
    """What a loader yields and a meta-architecture takes.

    images: uint8 [B, 3, H, W] (RGB, normalised by the model on its device), or float32: already normalised.
    views: the same with several views of each image, [B, V, 3, H, W], instead of `images`.
    targets: int64 [B], training labels 0..C-1; in evaluation the identity numbers.
    camids, viewids: int64 [B]. indices: int64 [B], positions in the dataset that the loader reads.

    Of features that were encoded before (`FeatureLoader`), instead of images: features float [B, D]; identities int64
    [U], the distinct targets, rising; slots int64 [B], the position of each target among them.
    """

    images: Tensor
    views: Tensor
    targets: Tensor
    camids: Tensor
    viewids: Tensor
    indices: Tensor
    features: Tensor
    identities: Tensor
    slots: Tensor


class ImageFeatures(NamedTuple):
    """Features of an image encoder at its class token (ViT) or averaged over space (ResNet), each [B, width].

    penultimate: after the last but one block, no norm. last: after the last block and the final norm.
    projected: `last` in the space shared with text.
    """

    penultimate: Tensor
    last: Tensor
    projected: Tensor
