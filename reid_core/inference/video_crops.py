"""Crops of a video's frames, by a table of boxes; they are cut as they are encoded and never written."""

import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from reid_core.data.datasets.listing import printable
from reid_core.data.feature_files import Column
from reid_core.inference.image_sources import ImageSource, LabelColumn, read_table

_BOX = ("frame", "x", "y", "w", "h")
_LABELS = ("track", "pid", "camid")
# Files of pictures and sound alone: FFmpeg would also follow lists of addresses, and draw a text file as a film.
_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc,m4v,ivf,av1,obu,mjpeg,nut"
)
_LARGEST = 2**31 - 1


class VideoCrops(ImageSource):
    """The boxes of a video, in the order of their frames.

    video: whatever FFmpeg decodes. boxes: CSV, TSV, JSON lines or Parquet with the columns frame, x, y, w, h (pixels,
    from the frame's left upper corner; rounded, and cut at its edges), and track, pid, camid if known. Frames are
    counted as they are decoded. The column `timestamp` is the video's, in seconds.
    """

    def __init__(self, video: str | Path, boxes: str | Path, first_frame: int = 0):
        """first_frame: the number that the table gives to the first frame.

        Raises FileNotFoundError, ImportError without PyAV, OSError for what is no video, ValueError naming the line of
        a box that cannot be.
        """
        self.video, self.source = Path(video).expanduser(), Path(boxes).expanduser()
        for path in (self.video, self.source):
            if not path.is_file():
                raise FileNotFoundError(f"There is no file {path} (working folder: {Path.cwd()}).")
        self.first_frame = first_frame
        frames, numbers, labels = self._read()
        order = np.argsort(frames, kind="stable")
        self.frames, self.boxes, self._order = frames[order], numbers[order], order
        self.labels = {name: column for name, column in labels.items() if column.is_known}
        self._timestamps = np.full(len(frames), np.nan)
        self._decoder = _Frames(self.video)

    def __len__(self) -> int:
        return len(self.frames)

    def columns(self, rows: np.ndarray) -> dict[str, Column]:
        boxes = {name: self.boxes[rows, place] for place, name in enumerate(_BOX[1:])}
        labels = {name: column.values(self._order[rows]) for name, column in self.labels.items()}
        return {"frame": self.frames[rows], **boxes, **labels, "timestamp": self._timestamps[rows]}

    def images(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """uint8 [H, W, 3] each. Raises ValueError for a box outside its frame, and for a frame behind the end."""
        for row in rows:
            frame = self._frame(row)
            crop = _cut(frame, self.boxes[row])
            if not crop.size:
                raise ValueError(self._outside(row, frame))
            yield crop.copy()

    def digest(self, rows: np.ndarray) -> str:
        state = self.video.stat()
        digest = hashlib.sha256(repr((state.st_size, state.st_mtime_ns, self.first_frame)).encode())
        digest.update(self.frames[rows].tobytes() + self.boxes[rows].tobytes())
        for name, column in self.labels.items():
            digest.update(repr((name, list(column.values(self._order[rows])))).encode())
        return digest.hexdigest()

    def refused(self, rows: np.ndarray, num_threads: int) -> dict[int, str]:
        reasons = {}
        for row in rows:
            try:
                frame = self._frame(row)
            except ValueError as error:
                reasons[int(row)] = str(error)
                continue
            if not _cut(frame, self.boxes[row]).size:
                reasons[int(row)] = self._outside(row, frame)
        return reasons

    def _frame(self, row: int) -> np.ndarray:
        number = int(self.frames[row]) - self.first_frame
        pixels, self._timestamps[row] = self._decoder.at(number)
        if pixels is None:
            raise ValueError(
                f"{self.source}: a box is in frame {self.frames[row]}, but {self.video} ends with frame "
                f"{self._decoder.count - 1 + self.first_frame}."
            )
        return pixels

    def _outside(self, row: int, frame: np.ndarray) -> str:
        height, width = frame.shape[:2]
        return (
            f"{self.source}: the box {self.boxes[row].tolist()} (x, y, w, h) in frame {self.frames[row]} lies outside "
            f"the picture, which is {width} x {height} pixels."
        )

    def _read(self) -> tuple[np.ndarray, np.ndarray, dict[str, LabelColumn]]:
        frames, numbers = [np.empty(0, np.int64)], [np.empty((0, 4))]
        labels = {name: LabelColumn(name) for name in _LABELS}
        for block, texts in read_table(self.source, _BOX, _LABELS):
            rows = [
                self._numbers(block.line(place), values)
                for place, values in enumerate(zip(*(texts[name] for name in _BOX), strict=True))
            ]
            if rows:
                table = np.array(rows, dtype=np.float64)
                frames.append(table[:, 0].astype(np.int64))
                numbers.append(table[:, 1:])
            for name, column in labels.items():
                column.add(texts.get(name, [""] * len(block)))
        for column in labels.values():
            column.close(printable(self.source))
        if len(frames) == 1:
            raise ValueError(f"{self.source} holds no boxes.")
        return np.concatenate(frames), np.concatenate(numbers), labels

    def _numbers(self, line: str, texts: tuple[str, ...]) -> list[float]:
        try:
            values = [float(text) for text in texts]
        except ValueError:
            values = [math.nan]
        if not all(abs(value) <= _LARGEST for value in values):
            raise ValueError(f"{self.source}, {line}: {', '.join(_BOX)} must be numbers, got {', '.join(texts)}.")
        frame, _, _, width, height = values
        if not frame.is_integer() or frame < self.first_frame or min(width, height) <= 0:
            raise ValueError(
                f"{self.source}, {line}: a frame is a whole number from {self.first_frame}, w and h are positive; got "
                f"{', '.join(texts)}."
            )
        return values


class _Frames:
    """Frames of a video by number, decoded one after the other; for an earlier one it begins anew."""

    def __init__(self, path: Path):
        self.path, self._av = path, _pyav(path)
        self._open()

    def at(self, number: int) -> tuple[np.ndarray | None, float]:
        """uint8 [H, W, 3], RGB, and seconds; None and NaN behind the end. Raises OSError where it does not decode."""
        if number < self.count - 1:
            self._open()
        while self.count <= number:
            try:
                frame = next(self._decoding, None)
            except self._av.FFmpegError as error:
                raise OSError(f"{self.path} cannot be decoded behind frame {self.count}: {error}.") from error
            if frame is None:
                return None, math.nan
            self._frame, self._pixels, self.count = frame, None, self.count + 1
        if self._frame is None or self.count - 1 != number:
            return None, math.nan
        if self._frame.rotation % 360:
            raise OSError(
                f"{self.path} is marked as turned by {self._frame.rotation} degrees, and boxes may mean it turned or "
                "not: encode it anew, upright."
            )
        if self._pixels is None:
            self._pixels = self._frame.to_ndarray(format="rgb24")
        time = self._frame.time
        return self._pixels, math.nan if time is None else float(time)

    def _open(self) -> None:
        options = {"protocol_whitelist": "file", "format_whitelist": _DEMUXERS}
        try:
            self._container = self._av.open(os.fspath(self.path), options=options)
            streams = self._container.streams.video
            if not streams:
                raise OSError(f"{self.path} holds no pictures, only {len(self._container.streams)} other streams.")
            self._decoding = self._container.decode(streams[0])
        except self._av.FFmpegError as error:
            raise OSError(f"{self.path} is no video that can be read: {error}.") from error
        self.count, self._frame, self._pixels = 0, None, None


def _cut(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    x, y, width, height = box
    left, top, right, bottom = (max(round(edge), 0) for edge in (x, y, x + width, y + height))
    return frame[top:bottom, left:right]


def _pyav(path: Path) -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise ImportError(
            f'{path}: reading a video needs PyAV, which is not installed: pip install "reid-core[video]".'
        ) from error
    return av
