"""How the benchmarks lay out their files: one entry each. To add one, write a subclass or an instance in `LAYOUTS`."""

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Shot:
    """One image's place in a dataset.

    split: "train", "query" or "gallery". number: the identity's, as in file names; -1 marks junk. camera: from 1.
    index: counts the images of this identity and camera. frame: video frame, distinct within number and camera.
    order: counts the images of this identity. serial: counts all images of the dataset. viewpoint: 0..7 as VeRi-776
    numbers them; persons have 0.
    """

    split: str
    number: int
    camera: int
    index: int
    frame: int
    order: int
    serial: int = 0
    viewpoint: int = 0

    def seen_from(self, viewpoint: int) -> "Shot":
        """The same shot with its viewpoint filled in."""
        return replace(self, viewpoint=viewpoint)


@dataclass(frozen=True)
class Layout:
    """Folders and names of one benchmark; the base class is the family of Market-1501.

    title: for messages. folder: below the root. folders: of train, query, gallery, below it. cameras: the most that
    the benchmark's names or readers take. separate_numbers: training and test identities are both counted from 0.
    distractor_number, junk_number: identity numbers that mark such images, None where the benchmark has none.
    """

    title: str
    folder: str
    folders: tuple[str, str, str] = ("bounding_box_train", "query", "bounding_box_test")
    kind: str = "person"
    cameras: int = 6
    height: int = 128
    width: int = 64
    separate_numbers: bool = False
    distractor_number: int | None = None
    junk_number: int | None = None
    texts: tuple[str, ...] = ()  # files besides the images

    def path(self, shot: Shot) -> str:
        """The image's path below the dataset's folder, with forward slashes."""
        place = dict(zip(("train", "query", "gallery"), self.folders, strict=True))[shot.split]
        return f"{place}/{self.name(shot)}"

    def name(self, shot: Shot) -> str:
        raise TypeError(f"{type(self).__name__} must say how {self.title} names an image.")

    def write_texts(self, folder: Path, shots: Sequence[Shot]) -> None:
        """Write the list files named in `texts`; nothing where the names say everything."""


class Market1501(Layout):
    def name(self, shot: Shot) -> str:
        number = "-1" if shot.number == -1 else f"{shot.number:04d}"
        box = 0 if shot.split == "query" else 1 + shot.order % 9  # queries are boxed by hand, the others detected
        return f"{number}_c{shot.camera}s{1 + shot.frame // 20000}_{shot.frame:06d}_{box:02d}.jpg"


class MSMT17(Layout):
    """Four lists; an identity's images lie in a folder of its own; validation takes images of training identities."""

    def path(self, shot: Shot) -> str:
        return f"{self.folders[0] if shot.split == 'train' else self.folders[1]}/{self.name(shot)}"

    def name(self, shot: Shot) -> str:
        time = ("0303morning", "0303noon", "0303afternoon", "0113morning")[shot.frame % 4]
        name = f"{shot.number:04d}_{shot.order:03d}_{shot.camera:02d}_{time}_{shot.frame % 10000:04d}_{shot.index}.jpg"
        return f"{shot.number:04d}/{name}"

    def write_texts(self, folder: Path, shots: Sequence[Shot]) -> None:
        lines: dict[str, list[str]] = {text: [] for text in self.texts}
        for shot in shots:
            # The benchmark keeps about one training image in fourteen for validation, of the same identities.
            part = "val" if shot.split == "train" and shot.order % 14 == 5 else shot.split
            lines[f"list_{part}.txt"].append(f"{self.name(shot)} {shot.number}")
        for text, rows in lines.items():
            (folder / text).write_text("".join(f"{row}\n" for row in rows))


class MSMT17Market(Layout):
    def name(self, shot: Shot) -> str:
        return f"{shot.number:04d}_c{shot.camera}_{shot.order:04d}.jpg"


class DukeMTMC(Layout):
    def name(self, shot: Shot) -> str:
        return f"{shot.number:04d}_c{shot.camera}_f{shot.frame:07d}.jpg"


class CUHK03(Layout):
    """PNG files, as published."""

    def name(self, shot: Shot) -> str:
        return f"{shot.number:04d}_c{shot.camera}_{1 + shot.order}.png"


class VeRi776(Layout):
    """Vehicles; two files of keypoints whose last field is the viewpoint."""

    def name(self, shot: Shot) -> str:
        return f"{shot.number:04d}_c{shot.camera:03d}_{shot.frame:08d}_{shot.index}.jpg"

    def write_texts(self, folder: Path, shots: Sequence[Shot]) -> None:
        # The benchmark gives twenty keypoints of two coordinates, -1 where hidden. Only the viewpoint is rendered.
        hidden = " ".join(["-1"] * 40)
        for text, splits in zip(self.texts, (("train",), ("query", "gallery")), strict=True):
            rows = [
                f"{self.folder}/{self.path(shot)} {hidden} {shot.viewpoint}\n" for shot in shots if shot.split in splits
            ]
            (folder / text).write_text("".join(rows))


class VehicleID(Layout):
    """Vehicles; images are counted through, without cameras; the lists say which vehicle, and for training or test.

    A test list holds the vehicles with the smallest numbers, as many as its name says or all there are, with all their
    images: which of them are queries is the reader's draw. Distractors have the largest numbers and one image each.
    """

    def name(self, shot: Shot) -> str:
        return f"{shot.serial:07d}.jpg"

    def write_texts(self, folder: Path, shots: Sequence[Shot]) -> None:
        train = {shot.number for shot in shots if shot.split == "train"}
        test = sorted({shot.number for shot in shots} - train)
        listed = (train, *(set(test[:size]) for size in _VEHICLEID_TEST_SIZES))
        for text, numbers in zip(self.texts, listed, strict=True):
            rows = [f"{shot.serial:07d} {shot.number}\n" for shot in shots if shot.number in numbers]
            (folder / text).parent.mkdir(exist_ok=True)
            (folder / text).write_text("".join(rows))


class VERIWild(Layout):
    """Vehicles, each in a folder of its own; the lists say which are queries, a further file the cameras.

    A test list holds the vehicles with the smallest numbers, as many as its name says or all there are. A vehicle has
    one query, its first image, as published; what else the plan would ask for is in the gallery.
    """

    def path(self, shot: Shot) -> str:
        return f"{self.folders[0]}/{self.name(shot)}"

    def name(self, shot: Shot) -> str:
        return f"{shot.number}/{shot.serial:06d}.jpg"

    def write_texts(self, folder: Path, shots: Sequence[Shot]) -> None:
        images = {shot: self.name(shot).removesuffix(".jpg") for shot in shots}
        queries = {shot for shot in shots if shot.split == "query" and shot.order == 0}
        train = {shot.number for shot in shots if shot.split == "train"}
        test = sorted({shot.number for shot in shots} - train)
        header, info = "id/image;Camera ID;Time;Model;Type;Color", "2018-03-01 12:00:00;unknown;unknown;unknown"
        lists = [
            [header, *(f"{image};{shot.camera};{info}" for shot, image in images.items())],
            [image for shot, image in images.items() if shot.number in train],
        ]
        for size in _VERI_WILD_TEST_SIZES:
            numbers = set(test[:size])
            tested = [shot for shot in shots if shot.number in numbers]
            lists.append([images[shot] for shot in tested if shot not in queries])
            lists.append([images[shot] for shot in tested if shot in queries])
        for text, lines in zip(self.texts, lists, strict=True):
            (folder / text).parent.mkdir(exist_ok=True)
            (folder / text).write_text("".join(f"{line}\n" for line in lines))


_VERI_WILD_TEST_SIZES = (3000, 5000, 10000)
_VEHICLEID_TEST_SIZES = (800, 1600, 2400)
_MSMT17_LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")

LAYOUTS: dict[str, Layout] = {
    "market1501": Market1501("Market-1501", "Market-1501-v15.09.15", distractor_number=0, junk_number=-1),
    "msmt17_v1": MSMT17(
        "MSMT17 V1", "MSMT17", ("train", "test", "test"), cameras=15, separate_numbers=True, texts=_MSMT17_LISTS
    ),
    "msmt17_v2": MSMT17(
        "MSMT17 V2",
        "MSMT17_V2",
        ("mask_train_v2", "mask_test_v2", "mask_test_v2"),
        cameras=15,
        separate_numbers=True,
        texts=_MSMT17_LISTS,
    ),
    "msmt17_market": MSMT17Market("MSMT17 in Market style", "MSMT17_V2", cameras=15, separate_numbers=True),
    "dukemtmc": DukeMTMC("DukeMTMC-reID", "DukeMTMC-reID", cameras=8),
    "occluded_duke": DukeMTMC("Occluded-Duke", "Occluded_Duke", cameras=8),
    "cuhk03_labeled": CUHK03("CUHK03, labeled", "cuhk03-np/labeled", cameras=2),
    "cuhk03_detected": CUHK03("CUHK03, detected", "cuhk03-np/detected", cameras=2),
    "veri776": VeRi776(
        "VeRi-776",
        "VeRi",
        ("image_train", "image_query", "image_test"),
        kind="vehicle",
        cameras=20,
        width=128,
        texts=("keypoint_train.txt", "keypoint_test.txt"),
    ),
    "vehicleid": VehicleID(
        "VehicleID",
        "VehicleID_V1.0",
        ("image", "image", "image"),
        kind="vehicle",
        cameras=20,
        width=128,
        texts=(
            "train_test_split/train_list.txt",
            *(f"train_test_split/test_list_{size}.txt" for size in _VEHICLEID_TEST_SIZES),
        ),
    ),
    "veri_wild": VERIWild(
        "VERI-Wild",
        "VERI-Wild",
        ("images", "images", "images"),
        kind="vehicle",
        cameras=174,
        width=128,
        texts=(
            "train_test_split/vehicle_info.txt",
            "train_test_split/train_list.txt",
            *(f"train_test_split/test_{size}{part}.txt" for size in _VERI_WILD_TEST_SIZES for part in ("", "_query")),
        ),
    ),
}


def find_layout(name: str) -> Layout:
    """The layout of that name. Raises LookupError that lists what exists, the nearest first."""
    if name in LAYOUTS:
        return LAYOUTS[name]
    known = sorted(LAYOUTS, key=lambda entry: -difflib.SequenceMatcher(None, str(name).lower(), entry).ratio())
    near = difflib.get_close_matches(str(name).lower(), known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise LookupError(f"No rendering layout named '{name}'.{hint} There are: {', '.join(known)}.")


def remove_files(layout: Layout, folder: Path) -> list[Path]:
    """The entries below the folder that the layout writes: what an overwriting call may delete, and nothing else."""
    return [folder / os.fspath(entry) for entry in dict.fromkeys((*layout.folders, *layout.texts))]
