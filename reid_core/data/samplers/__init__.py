"""The samplers of training batches, one a file; importing this package registers them."""

from reid_core.data.samplers.base import BatchSampler
from reid_core.data.samplers.identity import IdentitySampler
from reid_core.data.samplers.identity_camera import IdentityCameraSampler
from reid_core.data.samplers.random import RandomSampler

__all__ = ["BatchSampler", "IdentityCameraSampler", "IdentitySampler", "RandomSampler"]
