"""A drawing surface for one object: colours, soft shading and coverage, on a canvas larger than the picture.

Points are (x, y) in pixels of the canvas, y downwards. Light comes from the left (-1) or the right (+1).
"""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from reid_core.data.rendering.colors import Color

Point = tuple[float, float]


class Figure:
    """Parts are painted one over the other; `paste` puts the whole on a picture.

    size: (width, height) of the canvas in pixels. light: in [-1, 1], the side from which the light comes.
    """

    def __init__(self, size: tuple[int, int], light: float = -0.5):
        self.size = size
        self.light = light
        self.colors = Image.new("RGB", size)
        self.shading = Image.new("L", size, 255)
        self.coverage = Image.new("L", size, 0)
        self._color = ImageDraw.Draw(self.colors)
        self._shade = ImageDraw.Draw(self.shading)
        self._cover = ImageDraw.Draw(self.coverage)

    def polygon(self, points: Sequence[Point], color: Color, shade: int = 255) -> None:
        """A flat polygon; shade: 0..255, its brightness."""
        self._color.polygon(points, fill=color)
        self._shade.polygon(points, fill=shade)
        self._cover.polygon(points, fill=255)

    def round_polygon(self, points: Sequence[Point], color: Color, dark: int = 150) -> None:
        """A polygon that looks like a vertical cylinder: darker at its sides, most of all away from the light."""
        self._color.polygon(points, fill=color)
        self._cover.polygon(points, fill=255)
        self._round_shade(points, dark)

    def textured(
        self,
        points: Sequence[Point],
        paint: Callable[[ImageDraw.ImageDraw, Point], None],
        color: Color,
        dark: int = 150,
    ) -> None:
        """A polygon that `paint` decorates; it draws on a piece of cloth whose left upper corner it is told."""
        xs, ys = [x for x, _ in points], [y for _, y in points]
        left, top = int(min(xs)) - 1, int(min(ys)) - 1
        size = (int(max(xs)) + 2 - left, int(max(ys)) + 2 - top)
        cloth, cut = Image.new("RGB", size, color), Image.new("L", size, 0)
        paint(ImageDraw.Draw(cloth), (left, top))
        ImageDraw.Draw(cut).polygon([(x - left, y - top) for x, y in points], fill=255)
        self.colors.paste(cloth, (left, top), cut)
        self.coverage.paste(255, (left, top, left + size[0], top + size[1]), cut)
        self._round_shade(points, dark)

    def limb(self, start: Point, end: Point, first: float, last: float, color: Color, dark: int = 150) -> None:
        """A tapering cylinder with round ends, of radius `first` at the start and `last` at the end."""
        along = np.array(end) - np.array(start)
        length = max(float(np.hypot(*along)), 1e-6)
        across = np.array((-along[1], along[0])) / length
        outline = _tapered(start, end, across, first, last)
        for draw, fill in ((self._color, color), (self._cover, 255), (self._shade, dark)):
            _capsule(draw, outline, start, end, first, last, fill)
        shift = 0.3 * self.light
        inner_start, inner_end = (start[0] + shift * first, start[1]), (end[0] + shift * last, end[1])
        inner = _tapered(inner_start, inner_end, across, 0.62 * first, 0.62 * last)
        _capsule(self._shade, inner, inner_start, inner_end, 0.62 * first, 0.62 * last, 255)

    def ellipse(self, center: Point, across: float, down: float, color: Color, dark: int = 165) -> None:
        """An ellipse with the given half axes, shaded like a ball."""
        box = _box(center, across, down)
        self._color.ellipse(box, fill=color)
        self._cover.ellipse(box, fill=255)
        self._shade.ellipse(box, fill=dark)
        lit = (center[0] + 0.25 * self.light * across, center[1] - 0.12 * down)
        self._shade.ellipse(_box(lit, 0.7 * across, 0.75 * down), fill=255)

    def half_ellipse(self, center: Point, across: float, up: float, color: Color, shade: int = 235) -> None:
        """The upper half of an ellipse."""
        box = _box(center, across, up)
        for draw, fill in ((self._color, color), (self._cover, 255), (self._shade, shade)):
            draw.pieslice(box, 180, 360, fill=fill)

    def line(self, start: Point, end: Point, width: float, color: Color) -> None:
        """A stripe of cloth on top of what is there; it takes over the shading below it."""
        self._color.line((start, end), fill=color, width=max(1, round(width)))
        self._cover.line((start, end), fill=255, width=max(1, round(width)))

    def mark(self, points: Sequence[Point], color: Color) -> None:
        """A flat polygon that takes over the shading below it: prints, windows, stripes."""
        self._color.polygon(points, fill=color)
        self._cover.polygon(points, fill=255)

    def paste(self, picture: Image.Image, softness: float) -> None:
        """Put the object on the picture (same size); softness: radius in pixels that the shading is blurred by."""
        box = self.coverage.getbbox()
        if box is None:
            return
        shading = self.shading.crop(box).filter(ImageFilter.BoxBlur(softness))
        lit = ImageChops.multiply(self.colors.crop(box), Image.merge("RGB", (shading,) * 3))
        picture.paste(lit, box, self.coverage.crop(box))

    def _round_shade(self, points: Sequence[Point], dark: int) -> None:
        self._shade.polygon(points, fill=dark)
        middle = sum(x for x, _ in points) / len(points)
        reach = max(abs(x - middle) for x, _ in points)
        for share, level in ((0.8, (dark + 255) // 2), (0.55, 255)):
            shift = self.light * reach * (1.0 - share) * 0.6
            self._shade.polygon([(middle + (x - middle) * share + shift, y) for x, y in points], fill=level)


def _box(center: Point, across: float, down: float) -> tuple[float, float, float, float]:
    return center[0] - across, center[1] - down, center[0] + across, center[1] + down


def _tapered(start: Point, end: Point, across: np.ndarray, first: float, last: float) -> list[Point]:
    x, y = float(across[0]), float(across[1])
    return [
        (start[0] + x * first, start[1] + y * first),
        (end[0] + x * last, end[1] + y * last),
        (end[0] - x * last, end[1] - y * last),
        (start[0] - x * first, start[1] - y * first),
    ]


def _capsule(
    draw: ImageDraw.ImageDraw,
    sides: list[Point],
    start: Point,
    end: Point,
    first: float,
    last: float,
    fill: Color | int,
) -> None:
    draw.polygon(sides, fill=fill)
    draw.ellipse(_box(start, first, first), fill=fill)
    draw.ellipse(_box(end, last, last), fill=fill)
