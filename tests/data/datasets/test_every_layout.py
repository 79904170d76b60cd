"""What lies about in real folders, against every reader: foreign files, links, other endings, names outside UTF-8."""

import logging
import os
import shutil
import sys
from pathlib import Path

import pytest

from reid_core.data import TrainingSet, read_image
from reid_core.data.datasets.base import SPLITS
from reid_core.data.datasets.listing import IMAGE_SUFFIXES
from reid_core.data.rendering import LAYOUTS, render_dataset
from reid_core.registry import DATASET_REGISTRY
from tests.data.rendered import READERS, small_options

LISTED = ("msmt17_v1", "msmt17_v2", "vehicleid", "veri_wild")  # lists say which images belong, so a stray one is left
ALL = sorted(LAYOUTS)
BY_NAME = [layout for layout in ALL if layout not in LISTED]
NOT_UTF8 = os.fsdecode(b"caf\xe9.jpg")
needs_byte_names = pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse names outside UTF-8")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """layout -> the root of its rendering; read only."""
    roots = {}

    def find(layout: str) -> Path:
        if layout not in roots:
            roots[layout] = tmp_path_factory.mktemp(layout)
            render_dataset(roots[layout], small_options(layout, height=32, width=16))
        return roots[layout]

    return find


@pytest.fixture
def copy(rendered, tmp_path):
    """layout -> the root of a copy that may be changed."""
    return lambda layout: Path(shutil.copytree(rendered(layout), tmp_path / "copy"))


def read(layout, root):
    return DATASET_REGISTRY.get(READERS[layout])(str(root))


def image_files(layout, root):
    folder = root / LAYOUTS[layout].folder
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)


def contents(dataset):
    """The splits without the ending of each path and without the root, which tests change."""
    return {
        split: [(str(Path(record.path).relative_to(dataset.folder).with_suffix("")), *record[1:]) for record in table]
        for split, table in ((split, getattr(dataset, split)) for split in SPLITS)
    }


@pytest.mark.parametrize("layout", ALL)
def test_every_layout_has_a_reader(rendered, layout):
    dataset = read(layout, rendered(layout))
    assert len(dataset.train) == 4 * 2 * 2 and len(dataset.query) >= 3 and len(dataset.gallery) >= 6


@pytest.mark.parametrize("layout", ALL)
def test_an_empty_folder(tmp_path, layout):
    folder = tmp_path / LAYOUTS[layout].folder
    folder.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"missing in .*\n.*Expected in") as caught:
        read(layout, tmp_path)
    assert str(folder) in str(caught.value) and "nothing" in str(caught.value)


@pytest.mark.parametrize("layout", ALL)
def test_folders_without_images(copy, layout):
    root = copy(layout)
    for path in image_files(layout, root):
        path.unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=r"split is empty in|images listed in .* are not in"):
        read(layout, root)


@pytest.mark.parametrize("layout", ALL)
def test_a_file_where_an_image_folder_belongs(copy, layout):
    root = copy(layout)
    folder = root / LAYOUTS[layout].folder / LAYOUTS[layout].folders[0]
    shutil.rmtree(folder)
    folder.touch()
    with pytest.raises(FileNotFoundError, match=" missing in") as caught:
        read(layout, root)
    assert f"{LAYOUTS[layout].folders[0]}/" in str(caught.value)


@pytest.mark.parametrize("layout", ALL)
def test_foreign_files_are_ignored_and_counted(rendered, copy, layout, caplog):
    root = copy(layout)
    folder = image_files(layout, root)[0].parent
    for name in ("Thumbs.db", ".DS_Store", "._0001.jpg", "notes.txt", "README", "labels.jpg.mat", "desktop.ini"):
        (folder / name).write_bytes(b"not an image")
    with caplog.at_level(logging.INFO, logger="reid"):
        dataset = read(layout, root)
    assert contents(dataset) == contents(read(layout, rendered(layout)))
    messages = [record.getMessage() for record in caplog.records if "that are not images" in record.getMessage()]
    assert len(messages) == 1 and "7 files ignored that are not images: " in messages[0]
    assert LAYOUTS[layout].folder in messages[0] and ".DS_Store" in messages[0]


@pytest.mark.parametrize("layout", ALL)
def test_folders_named_as_images_are_not_looked_into_and_told(rendered, copy, layout, caplog):
    root = copy(layout)
    first = image_files(layout, root)[0]
    (first.parent / f"0{first.name}" / "more").mkdir(parents=True)
    dataset = read(layout, root)
    assert contents(dataset) == contents(read(layout, rendered(layout)))
    messages = [record.getMessage() for record in caplog.records if "not looked into" in record.getMessage()]
    assert len(messages) == 1 and "1 folders" in messages[0] and f"0{first.name}/" in messages[0]


@pytest.mark.parametrize("layout", ALL)
def test_a_folder_in_the_place_of_an_image(copy, layout):
    root = copy(layout)
    for path in image_files(layout, root):
        if path.parent == image_files(layout, root)[0].parent:
            path.unlink()
            path.mkdir()
    with pytest.raises((ValueError, FileNotFoundError), match=r"split is empty in|images listed in .* are not in"):
        read(layout, root)


@pytest.mark.parametrize("layout", ALL)
@pytest.mark.parametrize("ending", [".JPG", ".JPEG", ".PNG", ".Jpeg"])
def test_endings_in_any_case(rendered, copy, layout, ending):
    root = copy(layout)
    for path in image_files(layout, root):
        path.rename(path.with_suffix(ending))
    dataset = read(layout, root)
    assert contents(dataset) == contents(read(layout, rendered(layout)))
    assert all(Path(record.path).suffix == ending and Path(record.path).exists() for record in dataset.gallery)


@pytest.mark.parametrize("layout", ALL)
def test_links_to_files_and_folders_are_followed(rendered, copy, layout, tmp_path):
    root = copy(layout)
    store = tmp_path / "store"
    store.mkdir()
    for number, path in enumerate(image_files(layout, root)):
        if number % 2:
            path.rename(store / f"{number}.data")
            path.symlink_to(store / f"{number}.data")
    for number, folder in enumerate(sorted({path.parent for path in image_files(layout, root)})):
        folder.rename(store / f"folder{number}")
        folder.symlink_to(store / f"folder{number}", target_is_directory=True)
    dataset = read(layout, root)
    assert contents(dataset) == contents(read(layout, rendered(layout)))
    assert all(tuple(read_image(record.path).shape) == (3, 32, 16) for record in dataset.query)


@pytest.mark.parametrize("layout", ALL)
@pytest.mark.parametrize("kind", ["broken", "circle"])
def test_a_link_that_leads_nowhere_is_named(copy, layout, kind):
    root = copy(layout)
    first = image_files(layout, root)[0]
    first.unlink()
    first.symlink_to(first.name if kind == "circle" else "gone.jpg")
    with pytest.raises(FileNotFoundError, match=r"1 entries of .* links that lead to no file") as caught:
        read(layout, root)
    assert first.name in str(caught.value)


@pytest.mark.parametrize("layout", BY_NAME)
def test_an_image_whose_name_does_not_parse_is_named(copy, layout):
    root = copy(layout)
    (image_files(layout, root)[0].parent / "holiday.JPG").touch()
    with pytest.raises(ValueError, match=r"1 files in .* do not fit the names .*holiday\.JPG"):
        read(layout, root)


@needs_byte_names
@pytest.mark.parametrize("layout", BY_NAME)
def test_a_stray_image_outside_utf8_is_named_in_text_that_can_be_written(copy, layout):
    root = copy(layout)
    (image_files(layout, root)[0].parent / NOT_UTF8).touch()
    with pytest.raises(ValueError, match=r"1 files in .* do not fit the names") as caught:
        read(layout, root)
    assert r"caf\udce9.jpg" in str(caught.value).encode("utf-8").decode("utf-8")


@needs_byte_names
@pytest.mark.parametrize("layout", LISTED)
def test_an_unlisted_image_outside_utf8_does_not_belong(rendered, copy, layout):
    root = copy(layout)
    (image_files(layout, root)[0].parent / NOT_UTF8).touch()
    assert contents(read(layout, root)) == contents(read(layout, rendered(layout)))


@needs_byte_names
@pytest.mark.parametrize("layout", ALL)
def test_everything_outside_utf8(rendered, tmp_path, layout, caplog):
    """The root, foreign files and missing parts: whatever is logged or raised can be written as UTF-8."""
    root = Path(shutil.copytree(rendered(layout), tmp_path / os.fsdecode(b"donn\xe9es")))
    folder = image_files(layout, root)[0].parent
    (folder / os.fsdecode(b"lis\xe9.txt")).touch()
    (folder / os.fsdecode(b"dossier\xe9")).mkdir()
    with caplog.at_level(logging.INFO, logger="reid"):
        dataset = read(layout, root)
    assert contents(dataset) == contents(read(layout, rendered(layout)))
    assert tuple(read_image(dataset.train[0].path).shape) == (3, 32, 16)
    assert len(TrainingSet([dataset]).fingerprint()) == 64
    own = [record.getMessage() for record in caplog.records if record.name == "reid"]
    assert len([message for message in own if r"\udce9" in message]) >= 3  # files, folders, counts
    shutil.rmtree(root / LAYOUTS[layout].folder / LAYOUTS[layout].folders[0])
    with pytest.raises(FileNotFoundError) as caught:
        read(layout, root)
    for message in (*own, str(caught.value)):
        assert message.encode("utf-8")


@needs_byte_names
@pytest.mark.parametrize("layout", ["market1501", "dukemtmc", "cuhk03_labeled", "veri776", "msmt17_market"])
def test_an_image_outside_utf8_whose_name_parses_is_read(copy, layout):
    root = copy(layout)
    for table in LAYOUTS[layout].texts:
        (root / LAYOUTS[layout].folder / table).unlink()  # VeRi-776's viewpoints, which do not tell of the new name
    first = image_files(layout, root)[-1]
    stem = first.stem.rpartition("_")[0]
    new = first.with_name(os.fsdecode(os.fsencode(stem) + b"_\xe9" + os.fsencode(first.suffix)))
    first.rename(new)
    dataset = read(layout, root)
    paths = [record.path for split in SPLITS for record in getattr(dataset, split)]
    assert str(new) in paths and tuple(read_image(str(new)).shape) == (3, 32, 16)


@needs_byte_names
@pytest.mark.parametrize("layout", ["msmt17_v1", "veri_wild"])
def test_a_listed_image_outside_utf8_is_read(copy, layout):
    root = copy(layout)
    folder = root / LAYOUTS[layout].folder
    first = image_files(layout, root)[0]
    new = first.with_name(os.fsdecode(os.fsencode(first.stem) + b"\xe9.jpg"))
    first.rename(new)
    for text in LAYOUTS[layout].texts:
        changed = (folder / text).read_bytes().replace(os.fsencode(first.stem), os.fsencode(new.stem))
        (folder / text).write_bytes(changed)
    paths = [record.path for split in SPLITS for record in getattr(read(layout, root), split)]
    assert str(new) in paths


@pytest.mark.parametrize("layout", ALL)
def test_counts_are_checked_against_the_published_ones(rendered, layout, caplog):
    dataset = read(layout, rendered(layout))
    messages = [r.getMessage() for r in caplog.records if "differs from the published dataset" in r.getMessage()]
    assert len(messages) == 1
    for split, counts in dataset.official.items():
        assert f"{split} images {len(getattr(dataset, split))} (published: {counts['images']})" in messages[0]
