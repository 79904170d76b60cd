"""A user's own images in folders: one folder an identity, or identity and camera in the file names."""

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reid_core.config import ConfigError
from reid_core.data.datasets.base import SPLITS
from reid_core.data.datasets.listing import entry_is, examples, list_files, printable
from reid_core.data.datasets.own_data import OwnDataset, Rows
from reid_core.registry import DATASET_REGISTRY
from reid_core.utils.logging import get_logger

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_GROUPS = ("pid", "camid", "viewid")


@DATASET_REGISTRY.register()
class ImageFolder(OwnDataset):
    """`ImageFolder:shop`: the folders `train`, `query` and `gallery` below it; its name is the folder's.

    The identity is the first folder below the split's (`train/<pid>/...`), or the group `pid` of the pattern. Deeper
    folders and links are followed; what is no image is skipped and counted in the log. The images are sorted by path.
    """

    def __init__(self, root: str, path: str, kind: str = "person", pattern: str = "", unlabelled: bool = False):
        """root, path, kind: as OwnDataset.

        pattern: regular expression that is searched for in each image's path below the split folder ("/" between
        folders); its named groups `camid`, `pid` and `viewid` say what they match; "": identities by folders, cameras
        unknown. unlabelled: the training images have no identities, wherever they lie.

        Raises FileNotFoundError without a folder `train`, or `query` and `gallery`; ConfigError for a pattern that
        cannot be used; ValueError naming images that do not fit.
        """
        self.pattern, self.unlabelled = _compile(pattern), unlabelled
        super().__init__(root, path, kind)

    @classmethod
    def from_config(cls, cfg: Any, path: str) -> dict:
        own = cfg.DATASETS.OWN_DATA
        return super().from_config(cfg, path) | {"pattern": own.PATTERN, "unlabelled": own.UNLABELLED}

    def read_rows(self, add: Callable[[Rows], None]) -> None:
        if not self.location.is_dir():
            raise NotADirectoryError(f"{printable(self.location)} is a file; Manifest:<path> reads lists of images.")
        present = [split for split in SPLITS if (self.location / split).is_dir()]
        if "train" not in present and len(present) < 2:
            raise FileNotFoundError(
                f"{printable(self.location)} has no folder 'train' (to train on), nor both 'query' and 'gallery' (to "
                f"test on). Expected {self.location.name}/train/<identity>/<image>. Found: "
                f"{examples(list_files(self.location)) or 'nothing'}."
            )
        skipped: Counter[str] = Counter()
        for split in present:
            images = _images(self.location / split, skipped)
            if images:
                add(self._rows(split, images))
        if skipped:
            kinds = ", ".join(f"{count} {suffix}" for suffix, count in skipped.most_common(5))
            get_logger().info(f"{self.name}: skipped {skipped.total()} files that are no images ({kinds}).")

    def _rows(self, split: str, images: list[str]) -> Rows:
        groups = self._match(split, images)
        if self.unlabelled and split == "train":
            pids = [""] * len(images)
        elif "pid" in groups:
            pids = groups["pid"]
        else:
            pids = [image.rpartition("/")[0].partition("/")[0] for image in images]
            self._check_labelled(split, images, pids)
        paths = [f"{split}/{image}" for image in images]
        return Rows(
            lambda place: paths[place],
            paths,
            pids,
            camids=groups.get("camid"),
            viewids=groups.get("viewid"),
            splits=[split] * len(images),
        )

    def _match(self, split: str, images: list[str]) -> dict[str, list[str]]:
        """What the pattern's groups match in each image's path, "" for a group that takes no part."""
        names = list(self.pattern.groupindex)
        if not names:
            return {}
        matches = [self.pattern.search(image) for image in images]
        unfit = [image for image, match in zip(images, matches, strict=True) if match is None]
        if unfit:
            raise ValueError(
                f"{len(unfit)} of {len(images)} images in {printable(self.location / split)} do not fit "
                f"DATASETS.OWN_DATA.PATTERN '{self.pattern.pattern}': {examples(unfit)}. Mend the pattern, or move "
                "them away."
            )
        return {name: [match[name] or "" for match in matches] for name in names}

    def _check_labelled(self, split: str, images: list[str], pids: list[str]) -> None:
        loose = [image for image, pid in zip(images, pids, strict=True) if not pid]
        if not loose:
            return
        ways = "Move each into its identity's folder, or name the identity by a group (?P<pid>...) of the pattern"
        unlabelled = "; for images without identities set DATASETS.OWN_DATA.UNLABELLED True" if split == "train" else ""
        raise ValueError(
            f"{len(loose)} of {len(images)} images in {printable(self.location / split)} lie in no identity's folder: "
            f"{examples(loose)}. {ways}{unlabelled}."
        )


def _compile(pattern: str) -> re.Pattern:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"DATASETS.OWN_DATA.PATTERN '{pattern}' is no regular expression: {error}.") from None
    unknown = [name for name in compiled.groupindex if name not in _GROUPS]
    if unknown or (pattern and not compiled.groupindex):
        has = f"the group '{unknown[0]}'" if unknown else "no named group"
        raise ConfigError(
            f"DATASETS.OWN_DATA.PATTERN '{pattern}' has {has}; its groups are named {', '.join(_GROUPS)}, such as "
            "(?P<camid>[0-9]+)."
        )
    return compiled


def _images(folder: Path, skipped: Counter[str]) -> list[str]:
    """Paths of all images below the folder, sorted, "/" between parts; other files counted in `skipped`, by ending."""
    images, broken, waiting = [], [], [("", frozenset())]
    while waiting:
        below, above = waiting.pop()
        status = (folder / below).stat()
        inside = above | {(status.st_dev, status.st_ino)}
        if len(inside) == len(above):
            continue  # a link to a folder that it lies in
        with os.scandir(folder / below) as entries:
            for entry in entries:
                path = f"{below}{entry.name}"
                if entry.name.startswith("."):
                    skipped["hidden"] += 1
                elif entry_is(entry, "dir"):
                    waiting.append((f"{path}/", inside))
                elif not entry.name.lower().endswith(SUFFIXES):
                    skipped[Path(entry.name).suffix or "without ending"] += 1
                elif entry_is(entry, "file"):
                    images.append(path)
                else:
                    broken.append(path)
    if broken:
        raise FileNotFoundError(
            f"{len(broken)} images in {printable(folder)} are links that lead to no file: {examples(sorted(broken))}. "
            "Restore what they point to, or remove them."
        )
    return sorted(images, key=os.fsencode)
