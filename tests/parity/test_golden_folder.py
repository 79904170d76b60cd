"""The golden folder is what it should be, and our reading of its formulas reproduces its checksums."""

import zlib

import numpy as np
import pytest

from tests.parity import helpers


@pytest.mark.parametrize("architecture", ["ViT-B-16", "RN50"])
def test_weights_reproduce_their_checksums(architecture):
    check, tag = helpers.load("weights_check"), architecture.replace("-", "")
    weights = helpers.openai_state_dict(architecture)
    for name, crc in zip(check[f"{tag}_names"], check[f"{tag}_crc32"], strict=True):
        assert zlib.crc32(np.ascontiguousarray(weights[str(name)].numpy()).tobytes()) == int(crc), name


def test_image_batch_reproduces_its_checksum():
    check = helpers.load("weights_check")
    seed, batch, height, width = map(int, check["img_example_seed_b_h_w"])
    images = helpers.image_batch(seed, batch, height, width).numpy()
    assert zlib.crc32(images.tobytes()) == int(check["img_example_crc32"][0])
