"""Ranked lists as a picture: a row for each query, a frame around each gallery image that says what it is."""

import io
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from reid_core.data.images import read_image
from reid_core.evaluation.report_lists import Entry, ranked_entries
from reid_core.evaluation.results import EntryKind, RankingResults
from reid_core.structures import ReIDImage

_BOX = (112, 200)  # pixels; width and height that a picture is fitted into
_FRAME, _GAP, _LINE, _PAD = 5, 10, 17, 18  # pixels
_INK, _SOFT, _PAPER = (28, 36, 48), (91, 102, 117), (255, 255, 255)
_COLORS = {EntryKind.MATCH: (20, 131, 74), EntryKind.WRONG: (197, 48, 58), EntryKind.IGNORED: (130, 139, 150)}
_WORDS = {EntryKind.MATCH: "✓ match", EntryKind.WRONG: "✗ other", EntryKind.IGNORED: "own cam"}
_KEY = {
    EntryKind.MATCH: "match",
    EntryKind.WRONG: "another identity",
    EntryKind.IGNORED: "same identity and camera: not ranked",
}


def ranked_figure(
    results: RankingResults,
    positions: Sequence[int],
    query: Sequence[ReIDImage],
    gallery: Sequence[ReIDImage],
    title: str,
    length: int = 10,
    cameras: bool = True,
) -> bytes:
    """A PNG of the queries at `positions`, each with its `length` nearest gallery images, unranked ones among them.

    Green frame: a true match; red: another identity; dashed grey: the query's identity and camera, which is not ranked.
    cameras: False where the records' cameras say nothing about the picture, and are not shown. The same arguments give
    the same bytes. Raises ValueError for no query, OSError for a picture that cannot be read.
    """
    if not len(positions):
        raise ValueError("There is no query to show.")
    rows = [list(islice(ranked_entries(results.ranked_lists, position), length)) for position in positions]
    pictures = [
        [_picture(record.path) for record in (query[position], *(gallery[entry.position] for entry in row))]
        for position, row in zip(positions, rows, strict=True)
    ]
    heights = [max(picture.height for picture in row) + 2 * _FRAME + 3 * _LINE + _GAP for row in pictures]
    wide, head = _BOX[0] + 2 * _FRAME + _GAP, 2 * _PAD + 2 * _LINE
    columns = 1 + max(len(row) for row in rows)
    size = (max(2 * _PAD + columns * wide + _PAD, 740), head + sum(heights) + _PAD)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    _write_head(draw, title, {entry.kind for row in rows for entry in row})
    top = head
    for position, row, shown, height in zip(positions, rows, pictures, heights, strict=True):
        first = int(results.per_query.first_match_rank[position])
        lines = [f"AP {100 * results.per_query.average_precision[position]:.1f} %", f"first match {first}"]
        _draw_cell(draw, sheet, (_PAD, top), shown[0], None, [*lines, _name(query[position], cameras)])
        for column, (entry, picture) in enumerate(zip(row, shown[1:], strict=True), start=1):
            words = f"{entry.rank or '-'} {_WORDS[entry.kind]}"
            lines = [words, _name(gallery[entry.position], cameras), f"{entry.distance:.3f}"]
            _draw_cell(draw, sheet, (2 * _PAD + column * wide, top), picture, entry, lines)
        top += height
    x = _PAD + wide + _PAD // 2 - _GAP // 2
    draw.line((x, head, x, top - _GAP), fill=(217, 222, 229), width=2)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _draw_cell(
    draw: ImageDraw.ImageDraw,
    sheet: Image.Image,
    corner: tuple[int, int],
    picture: Image.Image,
    entry: Entry | None,
    lines: Sequence[str],
) -> None:
    """A framed picture with three lines below it; a query, which is no entry, has no frame."""
    x, y = corner
    left = x + (_BOX[0] - picture.width) // 2
    outer = (left, y, left + picture.width + 2 * _FRAME - 1, y + picture.height + 2 * _FRAME - 1)
    if entry is not None:
        draw.rectangle(outer, fill=_COLORS[entry.kind])
        if entry.kind == EntryKind.IGNORED:
            _cut_into_dashes(draw, outer)
            picture = Image.blend(picture, Image.new("RGB", picture.size, _PAPER), 0.45)
    sheet.paste(picture, (left + _FRAME, y + _FRAME))
    for number, line in enumerate(lines):
        color = _INK if number else _COLORS[entry.kind] if entry else _INK
        text, font = _fitted(line, _font(13, bold=number == 0), _BOX[0] + 2 * _FRAME)
        at = (x + _FRAME + _BOX[0] // 2, outer[3] + 4 + number * _LINE)
        draw.text(at, text, fill=color if number < 2 else _SOFT, font=font, anchor="ma")


def _cut_into_dashes(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int]) -> None:
    """Gaps in a frame, not at its corners."""
    left, top, right, bottom = box
    for x in range(left + 10, right - 15, 16):
        draw.rectangle((x, top, x + 7, bottom), fill=_PAPER)
    for y in range(top + 10, bottom - 15, 16):
        draw.rectangle((left, y, right, y + 7), fill=_PAPER)


def _write_head(draw: ImageDraw.ImageDraw, title: str, kinds: set[EntryKind]) -> None:
    draw.text((_PAD, _PAD), title, fill=_INK, font=_font(17, bold=True), anchor="la")
    x, y = _PAD, _PAD + _LINE + 12
    for kind, words in ((kind, words) for kind, words in _KEY.items() if kind in kinds):
        draw.rectangle((x, y, x + 14, y + 14), outline=_COLORS[kind], width=4)
        draw.text((x + 20, y + 7), words, fill=_SOFT, font=_font(13), anchor="lm")
        x += 20 + round(_font(13).getlength(words)) + 24


def _name(record: ReIDImage, cameras: bool) -> str:
    return f"id {record.pid}" + (f" · cam {record.camid + 1}" if cameras else "")


def _picture(path: str) -> Image.Image:
    """The image as large as fits into the box. Raises OSError for what does not decode."""
    image = Image.fromarray(np.ascontiguousarray(read_image(path).permute(1, 2, 0).numpy()))
    scale = min(_BOX[0] / image.width, _BOX[1] / image.height)
    return image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS
    )


def _fitted(text: str, font: ImageFont.FreeTypeFont, width: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """The text, in smaller letters or cut where it is too long."""
    size = font.size
    while font.getlength(text) > width and size > 9:
        size -= 1
        font = font.font_variant(size=size)
    while len(text) > 1 and font.getlength(text) > width:
        text = text[:-2] + "…"
    return text, font


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Matplotlib's: Pillow's own knows Latin letters alone."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
