"""Encoding: mirrored images are encoded too where that is asked for."""

import pytest
import torch

from reid_core.engine.encoding import encode, mirrored
from reid_core.modeling.meta_arch import MetaArchitecture


class Pixels(MetaArchitecture):
    """Features that know left from right."""

    def __init__(self):
        super().__init__([0.5] * 3, [0.5] * 3)

    def features(self, batch):
        return self.images(batch)[:, 0, 0].half()


def batches(images, size=3):
    for indices in torch.arange(len(images)).split(size):
        yield {"images": images[indices], "indices": indices, "camids": indices}


@pytest.fixture
def images():
    return torch.randint(0, 256, (8, 3, 4, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_set_and_its_mirror_image_have_equal_features(images):
    model = Pixels()
    plain, flipped = encode(model, batches(images)), encode(model, batches(images), flip=True)
    other = images.flip(3)
    assert torch.equal(encode(model, batches(other), flip=True), flipped)
    assert torch.equal(flipped, plain + encode(model, batches(other)))
    assert not torch.equal(encode(model, batches(other)), plain)
    assert flipped.dtype == torch.float32


def test_flipping_holds_for_what_is_extracted_instead(images):
    found = encode(Pixels(), batches(images), lambda batch: batch["images"][:, 1, 2], flip=True)
    assert torch.equal(found, images[:, 1, 2].float() + images[:, 1, 2].flip(1).float())


def test_only_images_are_mirrored_and_the_batch_stays_as_it_was(images):
    batch = {"views": images[None], "camids": torch.tensor([1, 2])}
    found = mirrored(batch)
    assert torch.equal(found["views"], images[None].flip(4)) and torch.equal(batch["views"], images[None])
    assert found["camids"] is batch["camids"]
