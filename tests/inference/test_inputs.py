from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_core.inference.inputs import list_images, prepared_batches, single_images


def test_a_folder_is_listed_below_and_sorted(tmp_path):
    for name in ("b/2.JPG", "a.png", "b/1.jpeg", ".hidden.jpg", "notes.txt", "c.jpg/inside.webp"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    names = [str(path.relative_to(tmp_path)) for path in list_images(tmp_path)]
    assert names == ["a.png", "b/1.jpeg", "b/2.JPG", "c.jpg/inside.webp"]


def test_everything_is_taken_apart_in_order(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    array = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    single = list(single_images([tmp_path, array, (array[1], [Image.new("L", (1, 1))])]))
    assert [type(image) for image in single[:1]] == [type(Path())]
    assert [image.tolist() for image in single[1:4]] == [array[0].tolist(), array[1].tolist(), array[1].tolist()]
    assert single[4].mode == "L"


@pytest.mark.parametrize("num_workers", [0, 1, 3])
@pytest.mark.parametrize("count", [0, 1, 7, 12])
def test_batches_keep_the_order(num_workers, count):
    batches = list(prepared_batches(range(count), lambda number: number * number, 4, num_workers))
    assert [value for batch in batches for value in batch] == [number * number for number in range(count)]
    assert [len(batch) for batch in batches[:-1]] == [4] * (len(batches) - 1)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_images_are_read_a_few_batches_ahead(num_workers):
    read = []

    def numbers():
        for number in range(1000):
            read.append(number)
            yield number

    batches = prepared_batches(numbers(), str, 5, num_workers)
    assert next(batches) == ["0", "1", "2", "3", "4"]
    assert len(read) == (5 if num_workers == 0 else 15)
    batches.close()
