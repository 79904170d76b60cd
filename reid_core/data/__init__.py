"""Datasets, samplers, transforms and loaders; importing this package registers those of the core."""

from reid_core.data.augmentations import AugMix, ColorJitter, RandAugment
from reid_core.data.datasets import ReIDDataset
from reid_core.data.image_table import ImageTable, PathColumn
from reid_core.data.images import read_image
from reid_core.data.loader import TestLoader, TrainLoader, build_test_loader, build_train_loader
from reid_core.data.samplers import BatchSampler, IdentityCameraSampler, IdentitySampler, RandomSampler
from reid_core.data.training_set import TrainingSet
from reid_core.data.transforms import build_transforms

__all__ = [
    "AugMix",
    "BatchSampler",
    "ColorJitter",
    "IdentityCameraSampler",
    "IdentitySampler",
    "ImageTable",
    "PathColumn",
    "RandAugment",
    "RandomSampler",
    "ReIDDataset",
    "TestLoader",
    "TrainLoader",
    "TrainingSet",
    "build_test_loader",
    "build_train_loader",
    "build_transforms",
    "read_image",
]
