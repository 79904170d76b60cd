"""Attention maps over the images that they belong to, one column for each model."""

import io
import re
import textwrap
from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

_DPI = 160
_CELL_HEIGHT, _MIN_CELL_WIDTH = 1.9, 1.45  # inches
_GAP, _TITLE_LINE, _FOOT = 0.12, 0.16, 0.62
_TEXT, _SOFT = "#222222", "#666666"
# From clear to dark red: what has the least attention stays as light as it is, and brightness falls evenly with
# attention, also for colour-blind people and in print.
_COLORS = ListedColormap(
    [(*color[:3], 0.85 * share) for share, color in ((i / 255, colormaps["YlOrRd"](i)) for i in range(256))]
)


def attention_figure(
    images: Tensor, columns: Mapping[str, Tensor], names: Sequence[str], caption: str = "attention"
) -> bytes:
    """A PNG whose rows are images and whose columns are the image and one overlay per model; the same bytes each time.

    images: uint8 [N, 3, H, W]. columns: title -> maps, float [N, h, w], of any grid; each is stretched from its own
    smallest to its largest value, so colours compare places of one picture, not pictures. names: of the N rows.
    caption: what the colours are. Raises ValueError where the numbers of images, maps and names differ.
    """
    counts = {"names": len(names), **{f"maps of {title}": len(maps) for title, maps in columns.items()}}
    wrong = [f"{count} {what}" for what, count in counts.items() if count != len(images)]
    if not len(images) or not columns or wrong:
        raise ValueError(f"Nothing to draw: {len(images)} images, {', '.join(wrong) or f'{len(columns)} columns'}.")
    height, width = images.shape[2:]
    cell_width = max(_CELL_HEIGHT * width / height, _MIN_CELL_WIDTH)
    titles = [_wrapped(title, cell_width) for title in ("image", *columns)]
    head = _GAP + _TITLE_LINE * max(title.count("\n") + 1 for title in titles)
    row_height = _CELL_HEIGHT + 0.2
    size = (_GAP + len(titles) * (cell_width + _GAP), head + len(images) * row_height + _FOOT)
    figure = Figure(figsize=size, dpi=_DPI)
    for row in range(len(images)):
        bottom = size[1] - head - (row + 1) * row_height + 0.2
        for column, maps in enumerate((None, *columns.values())):
            left = _GAP + column * (cell_width + _GAP)
            axes = figure.add_axes((left / size[0], bottom / size[1], cell_width / size[0], _CELL_HEIGHT / size[1]))
            _draw(axes, images[row], None if maps is None else maps[row])
            if row == 0:
                axes.set_title(titles[column], fontsize=8.5, color=_TEXT, fontweight="bold", pad=4, parse_math=False)
            if column == 0:
                axes.set_xlabel(names[row], fontsize=7.5, color=_SOFT, labelpad=3)
    _color_bar(figure, size, caption)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def _draw(axes: Axes, image: Tensor, attention: Tensor | None) -> None:
    """The image, or its brightness under its attention."""
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    if attention is None:
        axes.imshow(image.permute(1, 2, 0).cpu().numpy())
        return
    attention = attention.detach().cpu().float()
    spread = attention.max() - attention.min()
    stretched = (attention - attention.min()) / (spread if spread > 0 else 1)
    stretched = F.interpolate(stretched[None, None], tuple(image.shape[1:]), mode="bilinear", align_corners=False)
    axes.imshow(image.float().mean(dim=0).cpu().numpy(), cmap="gray", vmin=-80, vmax=255)  # no black: it hides the red
    axes.imshow(stretched[0, 0].numpy(), cmap=_COLORS, vmin=0, vmax=1)


def _wrapped(title: str, inches: float) -> str:
    """The title in lines of a column's width, broken behind the _, / and - of a folder's name where possible."""
    words = re.sub(r"(?<=[_/-])", "\n", title).replace("\n", " \0")  # \0: a gap that is no space of the title
    lines = textwrap.wrap(words, int(11 * inches), max_lines=3, placeholder=" ...", break_on_hyphens=False)
    return "\n".join(line.replace(" \0", "").replace("\0", "") for line in lines) or title


def _color_bar(figure: Figure, size: tuple[float, float], caption: str) -> None:
    width = min(2.2, size[0] - 1.4)
    axes = figure.add_axes(((size[0] - width) / 2 / size[0], 0.34 / size[1], width / size[0], 0.09 / size[1]))
    bar = figure.colorbar(ScalarMappable(cmap=_COLORS), cax=axes, orientation="horizontal", ticks=[])
    bar.outline.set_visible(False)
    for place, side, word in ((-0.03, "right", "lowest"), (1.03, "left", "highest")):
        axes.text(place, 0.5, word, transform=axes.transAxes, ha=side, va="center", fontsize=7.5, color=_SOFT)
    axes.set_xlabel(f"{caption}, of each picture", fontsize=7.5, color=_SOFT, labelpad=3)
