"""Contact sheets: rows are identities, columns cameras."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from reid_core.data.rendering.options import RenderingOptions
from reid_core.data.rendering.picture import draw_picture
from reid_core.data.rendering.plan import plan_jobs
from reid_core.utils.file_io import write_atomically

GAP = 2  # pixels between pictures
PAPER = (245, 245, 242)
INK = (40, 40, 40)
_FONT_SIZE = 11  # pixels
_LABEL_WIDTH = 120  # pixels; longer names are cut


def write_contact_sheet(path: str | Path, options: RenderingOptions, identities: int = 12, per_camera: int = 2) -> None:
    """Draw the first training identities, `per_camera` images by each camera that sees them, into one PNG."""
    jobs = [job for job in plan_jobs(options) if job.shot.split == "train" and job.identity < identities]
    pictures = {
        (job.identity, (job.shot.camera - 1) * per_camera + job.index): draw_picture(options, job)
        for job in jobs
        if job.index < per_camera
    }
    shape = (min(identities, options.train_identities), options.cameras * per_camera)
    write_sheet(path, pictures, shape, (options.height, options.width))


def write_sheet(
    path: str | Path,
    pictures: Mapping[tuple[int, int], Image.Image],
    shape: tuple[int, int],
    size: tuple[int, int],
    row_names: Sequence[str] = (),
    column_names: Sequence[str] = (),
) -> None:
    """Write pictures by (row, column) as one PNG; a cell without one stays empty.

    shape: rows and columns. size: height and width of a cell in pixels, into which larger or smaller pictures are
    fitted. row_names, column_names: written left of the rows and above the columns; a column's name stands over all up
    to the next that is not "". None are written if there are none.
    """
    font = _font() if row_names or column_names else None
    left = min(_LABEL_WIDTH, 4 * GAP + max((round(font.getlength(name)) for name in row_names), default=-4 * GAP))
    above = _FONT_SIZE + 2 * GAP if column_names else 0
    high, wide = size[0] + GAP, size[1] + GAP
    sheet = Image.new("RGB", (left + shape[1] * wide + GAP, above + shape[0] * high + GAP), PAPER)
    for (row, column), picture in pictures.items():
        fitted = picture if picture.size == size[::-1] else _fit(picture, size)
        corner = (left + GAP + column * wide + (size[1] - fitted.width) // 2, above + GAP + row * high)
        sheet.paste(fitted, corner)
    _write_names(
        sheet, font, [(GAP, above + row * high + high // 2, left, name) for row, name in enumerate(row_names)], "lm"
    )
    starts = [column for column, name in enumerate(column_names) if name]
    ends = [*starts[1:], shape[1]]
    places = [
        (left + GAP + start * wide, GAP, (end - start) * wide, column_names[start])
        for start, end in zip(starts, ends, strict=False)
    ]
    _write_names(sheet, font, places, "la")
    write_atomically(Path(path), lambda file: sheet.save(file, format="PNG"))


def _fit(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The whole picture, as large as fits into height and width."""
    scale = min(size[0] / picture.height, size[1] / picture.width)
    fitted = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(fitted, Image.Resampling.BICUBIC)


def _font() -> ImageFont.FreeTypeFont:
    """Matplotlib's: Pillow's own knows Latin letters alone."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), _FONT_SIZE)


def _write_names(
    sheet: Image.Image,
    font: ImageFont.FreeTypeFont | None,
    places: Sequence[tuple[int, int, int, str]],
    anchor: str,
) -> None:
    """Names at (x, y), each cut to its width."""
    draw = ImageDraw.Draw(sheet)
    for x, y, width, name in places:
        shown = name
        while len(shown) > 1 and font.getlength(shown) > width - 2 * GAP:
            shown = shown[:-2] + "…"
        draw.text((x, y), shown, fill=INK, font=font, anchor=anchor)
