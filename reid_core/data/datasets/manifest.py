"""A user's own images, listed in a file: CSV, JSON lines or Parquet."""

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reid_core.data.datasets.base import SPLITS
from reid_core.data.datasets.listing import examples, printable
from reid_core.data.datasets.manifest_files import Block, read_blocks
from reid_core.data.datasets.own_data import OwnDataset, Rows, as_text
from reid_core.registry import DATASET_REGISTRY
from reid_core.utils.logging import get_logger

REQUIRED = ("path", "pid")
OPTIONAL = ("camid", "viewid", "split")


@DATASET_REGISTRY.register()
class Manifest(OwnDataset):
    """`Manifest:crops.csv`: a table with one row an image; its name is the file's without the ending.

    path: relative to the manifest's folder (".." is fine) or absolute. pid: the identity, any text or number; empty or
    -1: unlabelled in the train split, -1: junk in the others. camid: the camera, any text or number; without the column
    cameras are unknown. viewid: whole number from 0. split: train, query or gallery; without the column all is train.
    Other columns are not read. The images keep the order of the rows.
    """

    def __init__(self, root: str, path: str, kind: str = "person", check_files: bool = True):
        """root, path, kind: as OwnDataset. check_files: look whether each image exists; a minute for a million on a
        slow disk, and the training set looks at those of the train split in any case.

        Raises ValueError naming the line and the value of what cannot be used, or the missing column;
        FileNotFoundError for a manifest or images that do not exist.
        """
        super().__init__(root, path, kind)
        if check_files:
            self._check_files()

    @classmethod
    def from_config(cls, cfg: Any, path: str) -> dict:
        return super().from_config(cfg, path) | {"check_files": cfg.DATASETS.OWN_DATA.CHECK_FILES}

    @classmethod
    def name_of(cls, path: str) -> str:
        return Path(path).stem

    def read_rows(self, add: Callable[[Rows], None]) -> None:
        columns: dict[str, None] = {}
        for block in read_blocks(self.location, (*REQUIRED, *OPTIONAL)):
            columns |= dict.fromkeys(block.names)
            # A row of JSON may lack a key that another has: only at the end is it known which columns there are.
            add(self._rows(block))
        self._check_columns(list(columns))

    def _rows(self, block: Block) -> Rows:
        if "path" not in block.columns:
            self._check_columns(list(block.names))
        texts = {name: self._texts(block, name) for name in (*REQUIRED, *OPTIONAL)}
        given = {f"{name}s": texts[name] for name in OPTIONAL if name in block.columns}
        return Rows(block.line, texts["path"], texts["pid"], **given)

    def _texts(self, block: Block, name: str) -> Sequence[str]:
        values = block.columns.get(name)
        if values is None:
            return [""] * len(block)
        if all(type(value) is str for value in values):
            return values
        texts = []
        for place, value in enumerate(values):
            try:
                texts.append(as_text(value))
            except ValueError as error:
                raise ValueError(
                    f"{printable(self.location)}, {block.line(place)}: the {name} cannot be used: {error}."
                ) from None
        return texts

    def _check_columns(self, found: list[str]) -> None:
        missing = [name for name in REQUIRED if name not in found]
        unread = [name for name in found if name not in REQUIRED + OPTIONAL]
        if missing:
            near = difflib.get_close_matches(missing[0], unread, n=1, cutoff=0.5)
            hint = f" Is it '{near[0]}'? Rename it then." if near else ""
            raise ValueError(
                f"{printable(self.location)} has no column '{missing[0]}'.{hint} Found: "
                f"{', '.join(map(printable, found)) or 'none'}. A manifest has {', '.join(REQUIRED)}, and may have "
                f"{', '.join(OPTIONAL)}."
            )
        for name in OPTIONAL:
            near = difflib.get_close_matches(name, unread, n=1, cutoff=0.5)
            if name not in found and near:
                get_logger().warning(
                    f"{printable(self.location)}: column '{near[0]}' is not read. Is it '{name}'? Rename it then."
                )

    def _check_files(self) -> None:
        missing, count = [], 0
        for split in SPLITS:
            paths = getattr(self, split).paths
            for place in range(len(paths)):
                if not Path(paths[place]).is_file():
                    count += 1
                    if len(missing) < 6:
                        missing.append(paths.relative(place))
        if count:
            raise FileNotFoundError(
                f"{count} images listed in {printable(self.location)} do not exist: {examples(missing)}. Paths are "
                f"relative to {printable(self.folder)}, or absolute."
            )
