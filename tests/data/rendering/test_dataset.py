import json
import re

import pytest
from PIL import Image

import reid_core.data  # noqa: F401  (registers the readers)
from reid_core.config import get_cfg
from reid_core.data.rendering import LAYOUTS, render_dataset, write_contact_sheet
from reid_core.data.rendering import dataset as dataset_module
from reid_core.data.rendering.plan import plan_jobs
from reid_core.registry import DATASET_REGISTRY
from tests.data.rendered import READERS, small_options

NAMES = {
    "market1501": r"(-1|\d{4})_c[1-6]s[1-6]_\d{6}_\d\d\.jpg",
    "msmt17_v1": r"\d{4}_\d{3}_\d\d_\d{4}(morning|noon|afternoon)_\d{4}_\d\.jpg",
    "msmt17_v2": r"\d{4}_\d{3}_\d\d_\d{4}(morning|noon|afternoon)_\d{4}_\d\.jpg",
    "msmt17_market": r"\d{4}_c\d+_\d{4}\.jpg",
    "dukemtmc": r"\d{4}_c[1-8]_f\d{7}\.jpg",
    "occluded_duke": r"\d{4}_c[1-8]_f\d{7}\.jpg",
    "cuhk03_labeled": r"\d{4}_c[12]_\d+\.png",
    "cuhk03_detected": r"\d{4}_c[12]_\d+\.png",
    "veri776": r"\d{4}_c\d{3}_\d{8}_\d\.jpg",
    "vehicleid": r"\d{7}\.jpg",
    "veri_wild": r"\d{6}\.jpg",
}


def _bytes(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*.jpg"))}


def test_the_same_options_give_the_same_bytes_with_any_number_of_workers(tmp_path):
    one = _bytes(render_dataset(tmp_path / "one", small_options(seed=3), workers=1))
    two = _bytes(render_dataset(tmp_path / "two", small_options(seed=3), workers=2))
    assert one == two
    other = _bytes(render_dataset(tmp_path / "other", small_options(seed=4), workers=2))
    assert not set(one.values()) & set(other.values())


def test_more_identities_leave_the_first_ones_alone(tmp_path):
    few = _bytes(render_dataset(tmp_path / "few", small_options(layout="msmt17_v1"), workers=2))
    many = _bytes(render_dataset(tmp_path / "many", small_options(layout="msmt17_v1", test_identities=5), workers=2))
    train = {path: content for path, content in few.items() if path.parts[0] == "train"}
    assert train
    assert all(many[path] == content for path, content in train.items())


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_the_reader_of_the_real_dataset_reads_it(tmp_path, layout):
    assert set(READERS) == set(LAYOUTS)
    folder = render_dataset(tmp_path, small_options(layout=layout), workers=2)
    images = [path for path in folder.rglob("*") if path.suffix in (".jpg", ".png")]
    assert images and all(re.fullmatch(NAMES[layout], path.name) for path in images)
    cfg = get_cfg()
    cfg.DATASETS.ROOT = str(tmp_path)
    dataset = DATASET_REGISTRY.build(READERS[layout], cfg)
    assert dataset.kind == small_options(layout=layout).kind
    assert len(dataset.train) == 4 * 2 * 2
    # VehicleID has one image of each vehicle in the gallery, distractors being vehicles with a single image;
    # VERI-Wild has one query of each vehicle.
    queries, gallery = {"vehicleid": (3 * 3, 3 + 3), "veri_wild": (3, 3 * 3 + 3)}.get(layout, (3 * 2, 3 * 2 + 3))
    assert len(dataset.query) == queries
    assert len({record.pid for record in dataset.train}) == 4
    assert len({record.pid for record in dataset.query}) == 3
    if not LAYOUTS[layout].separate_numbers:
        assert not {record.pid for record in dataset.train} & {record.pid for record in dataset.query}
    assert len(dataset.gallery) == gallery  # junk, where the layout has it, is not read
    for query in dataset.query:
        assert any(entry.pid == query.pid and entry.camid != query.camid for entry in dataset.gallery)
    if layout == "veri776":
        assert len({record.viewid for record in dataset.train}) > 1


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_identities_and_cameras_are_those_of_the_plan(tmp_path, layout):
    """What the renderer meant, image by image, against what the reader finds."""
    options, shots = small_options(layout=layout), {}
    folder = render_dataset(tmp_path, options, workers=2)
    for job in plan_jobs(options):
        shots[str(folder / LAYOUTS[layout].path(job.shot))] = job.shot
    dataset = DATASET_REGISTRY.get(READERS[layout])(str(tmp_path))
    records = [*dataset.train, *dataset.query, *dataset.gallery]
    assert {record.path for record in records} == {path for path, shot in shots.items() if shot.number != -1}
    assert len(records) == len({record.path for record in records})
    for record in records:
        assert record.pid == shots[record.path].number
        assert layout == "vehicleid" or record.camid == shots[record.path].camera - 1
    assert all(shots[record.path].split == "train" for record in dataset.train)
    if layout not in ("vehicleid", "veri_wild"):  # which image is the query is the reader's draw, or one a vehicle
        assert all(shots[record.path].split == "query" for record in dataset.query)


@pytest.mark.parametrize(
    ("layout", "size", "image_format"),
    [("market1501", (64, 128), "JPEG"), ("veri776", (128, 128), "JPEG"), ("cuhk03_labeled", (64, 128), "PNG")],
)
def test_pictures_are_rgb_of_the_layouts_size_and_format(tmp_path, layout, size, image_format):
    options = small_options(layout=layout, height=None, width=None, train_identities=1, test_identities=1)
    ending = {"JPEG": ".jpg", "PNG": ".png"}[image_format]
    pictures = list(render_dataset(tmp_path, options).rglob(f"*{ending}"))
    assert len(pictures) == len(plan_jobs(options))
    for path in pictures:
        with Image.open(path) as picture:
            assert (picture.format, picture.mode, picture.size) == (image_format, "RGB", size)


def test_a_second_call_uses_what_is_there_and_other_options_are_refused(tmp_path):
    folder = render_dataset(tmp_path, small_options())
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert render_dataset(tmp_path, small_options()) == folder
    with pytest.raises(FileExistsError, match="seed 0 -> 1"):
        render_dataset(tmp_path, small_options(seed=1))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    render_dataset(tmp_path, small_options(seed=1), overwrite=True)
    assert json.loads((folder / "rendering.json").read_text())["options"]["seed"] == 1


def test_files_of_somebody_else_are_never_touched(tmp_path):
    folder = tmp_path / LAYOUTS["market1501"].folder
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    for overwrite in (False, True):  # the folder may hold the real dataset
        with pytest.raises(FileExistsError, match="were not rendered"):
            render_dataset(tmp_path, small_options(), overwrite=overwrite)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_an_interrupted_rendering_never_looks_whole_and_is_done_again(tmp_path, monkeypatch):
    calls = []

    def failing(options, job):
        calls.append(job)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return b"half"

    with monkeypatch.context() as patched:
        patched.setattr(dataset_module, "encode_picture", failing)
        with pytest.raises(KeyboardInterrupt):
            render_dataset(tmp_path / "a", small_options())
    folder = tmp_path / "a" / LAYOUTS["market1501"].folder
    assert not (folder / "rendering.json").exists()
    again = _bytes(render_dataset(tmp_path / "a", small_options()))
    assert again == _bytes(render_dataset(tmp_path / "b", small_options()))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cameras_per_identity": 5}, "there are only 3 cameras"),
        ({"difficulty": 1.5}, r"difficulty must lie in \[0, 1\], got 1.5"),
        ({"train_identities": 0}, "train_identities must be an integer of at least 1"),
        ({"cameras": 9}, "Market-1501 has 6"),
        ({"test_cameras": "other"}, "test_cameras must be one of same, unseen"),
    ],
)
def test_badsmall_options(wrong, message):
    with pytest.raises(ValueError, match=message):
        small_options(**wrong)


def test_an_unknown_layout_names_the_nearest():
    with pytest.raises(LookupError, match="Did you mean 'market1501'"):
        small_options(layout="market")


def test_unseen_test_cameras_change_the_test_images_alone(tmp_path):
    same = _bytes(render_dataset(tmp_path / "same", small_options()))
    unseen = _bytes(render_dataset(tmp_path / "unseen", small_options(test_cameras="unseen")))
    assert same.keys() == unseen.keys()
    for path, content in same.items():
        assert (content == unseen[path]) == (path.parts[0] == "bounding_box_train")


def test_contact_sheet(tmp_path):
    write_contact_sheet(tmp_path / "sheet.png", small_options(), identities=3, per_camera=1)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.size == (3 * 34 + 2, 3 * 66 + 2)
        assert len(sheet.getcolors(maxcolors=100_000)) > 500


def test_another_layout_of_the_same_folder_leaves_no_file_of_the_first(tmp_path):
    render_dataset(tmp_path, small_options(layout="msmt17_v2"))
    folder = render_dataset(tmp_path, small_options(layout="msmt17_market"), overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == [
        "bounding_box_test",
        "bounding_box_train",
        "query",
        "rendering.json",
    ]


def test_many_distractors_have_names_of_their_own(tmp_path):
    jobs = plan_jobs(small_options(distractors=4000))
    layout = LAYOUTS["market1501"]
    assert len({layout.path(job.shot) for job in jobs}) == len(jobs)


def test_the_test_lists_of_vehicleid_are_nested(tmp_path):
    """Lists are written from the plan alone: 1700 vehicles need no pictures for it."""
    jobs = plan_jobs(small_options(layout="vehicleid", test_identities=1650, distractors=50))
    shots = [job.shot for job in jobs]
    LAYOUTS["vehicleid"].write_texts(tmp_path, shots)
    lists = {path.name: path.read_text().splitlines() for path in (tmp_path / "train_test_split").iterdir()}
    vehicles = {name: {line.split()[1] for line in lines} for name, lines in lists.items()}
    sizes = {"train_list.txt": 4, "test_list_800.txt": 800, "test_list_1600.txt": 1600, "test_list_2400.txt": 1700}
    assert {name: len(numbers) for name, numbers in vehicles.items()} == sizes
    assert set(lists["test_list_800.txt"]) < set(lists["test_list_1600.txt"]) < set(lists["test_list_2400.txt"])
    assert not vehicles["train_list.txt"] & vehicles["test_list_2400.txt"]
    assert len(lists["test_list_800.txt"]) == 800 * 2 * 2  # with all their images
    assert len(lists["train_list.txt"]) + len(lists["test_list_2400.txt"]) == len(jobs)
    assert sorted(line.split()[0] for name in ("train_list.txt", "test_list_2400.txt") for line in lists[name]) == [
        f"{number:07d}" for number in range(len(jobs))
    ]


def test_the_test_lists_of_veri_wild_are_nested_with_one_query_a_vehicle(tmp_path):
    jobs = plan_jobs(small_options(layout="veri_wild", test_identities=3100, distractors=50))
    LAYOUTS["veri_wild"].write_texts(tmp_path, [job.shot for job in jobs])
    lists = {path.stem: path.read_text().splitlines() for path in (tmp_path / "train_test_split").iterdir()}
    vehicles = {name: {line.split("/")[0] for line in lines} for name, lines in lists.items()}
    assert len(lists["vehicle_info"]) == 1 + len(jobs)
    assert len(vehicles["train_list"]) == 4 and len(lists["train_list"]) == 4 * 2 * 2
    assert len(lists["test_3000_query"]) == len(vehicles["test_3000_query"]) == len(vehicles["test_3000"]) == 3000
    assert len(lists["test_5000_query"]) == 3100 and len(vehicles["test_5000"]) == 3150  # distractors have no query
    assert lists["test_5000"] == lists["test_10000"] and set(lists["test_3000"]) < set(lists["test_5000"])
    assert not set(lists["test_5000"]) & set(lists["test_5000_query"])
    assert not vehicles["train_list"] & vehicles["test_10000"]


def test_both_kinds_of_boxes_of_cuhk03_lie_beside_each_other(tmp_path):
    for layout in ("cuhk03_labeled", "cuhk03_detected"):
        render_dataset(tmp_path, small_options(layout=layout))
    datasets = [DATASET_REGISTRY.get(READERS[name])(str(tmp_path)) for name in ("cuhk03_labeled", "cuhk03_detected")]
    assert [dataset.folder.name for dataset in datasets] == ["labeled", "detected"]
    assert len(datasets[0].train) == len(datasets[1].train) == 4 * 2 * 2


def test_every_test_size_of_a_rendered_vehicleid_is_read(tmp_path):
    render_dataset(tmp_path, small_options(layout="vehicleid"), workers=2)
    small, middle, large = (
        DATASET_REGISTRY.get(name)(str(tmp_path)) for name in ("VehicleID", "VehicleID1600", "VehicleID2400")
    )
    for split in ("train", "query", "gallery"):  # three vehicles and as many distractors: every list holds them all
        assert list(getattr(small, split)) == list(getattr(middle, split)) == list(getattr(large, split))
    with Image.open(small.gallery[0].path) as picture:
        assert picture.size == (32, 64)


def test_another_vehicleid_leaves_no_image_of_the_first_and_nothing_of_the_user_is_removed(tmp_path):
    first = render_dataset(tmp_path, small_options(layout="vehicleid"))
    (first / "train_test_split" / "own_list.txt").write_text("mine")
    images = len(list((first / "image").iterdir()))
    folder = render_dataset(tmp_path, small_options(layout="vehicleid", train_identities=1), overwrite=True)
    assert len(list((folder / "image").iterdir())) == images - 3 * 2 * 2
    assert (folder / "train_test_split" / "own_list.txt").read_text() == "mine"
    listed = [line for path in (folder / "train_test_split").glob("*list*") for line in path.read_text().splitlines()]
    assert len({line.split()[0] for line in listed} - {"mine"}) == images - 3 * 2 * 2


def test_a_vehicle_that_is_seen_is_a_vehicle(tmp_path):
    write_contact_sheet(tmp_path / "sheet.png", small_options(layout="vehicleid"), identities=2, per_camera=1)
    write_contact_sheet(tmp_path / "veri.png", small_options(layout="veri776"), identities=2, per_camera=1)
    assert (tmp_path / "sheet.png").read_bytes() == (tmp_path / "veri.png").read_bytes()
