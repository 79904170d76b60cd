"""Colours of clothes, skin, hair and bodywork, and the arithmetic on them. A colour is three integers in 0..255."""

import numpy as np

from reid_core.data.rendering.randomness import pick

Color = tuple[int, int, int]

CLOTHES: dict[str, Color] = {
    "black": (28, 28, 32),
    "white": (236, 236, 232),
    "grey": (132, 134, 138),
    "navy": (28, 40, 92),
    "blue": (38, 92, 188),
    "sky": (128, 186, 228),
    "red": (196, 34, 40),
    "wine": (112, 22, 48),
    "pink": (236, 140, 172),
    "orange": (236, 122, 30),
    "yellow": (240, 208, 52),
    "green": (38, 138, 66),
    "olive": (96, 100, 44),
    "teal": (24, 140, 144),
    "purple": (116, 54, 150),
    "brown": (112, 70, 40),
    "beige": (208, 184, 146),
}
PAINT: dict[str, Color] = {
    "white": (232, 234, 234),
    "black": (26, 27, 30),
    "silver": (176, 180, 184),
    "grey": (104, 108, 112),
    "red": (186, 26, 32),
    "blue": (30, 74, 164),
    "sky": (112, 172, 214),
    "green": (26, 104, 62),
    "yellow": (240, 196, 34),
    "orange": (230, 108, 24),
    "brown": (96, 62, 42),
    "beige": (204, 186, 150),
    "purple": (88, 46, 116),
}
SKIN: tuple[Color, ...] = ((244, 208, 178), (226, 180, 142), (194, 142, 100), (146, 98, 66), (92, 60, 42))
HAIR: tuple[Color, ...] = ((24, 20, 20), (58, 38, 26), (104, 68, 38), (186, 146, 84), (150, 62, 34), (168, 168, 170))


def mix(first: Color, second: Color, share: float) -> Color:
    """`share` of the second colour, the rest of the first."""
    return tuple(round(a + (b - a) * share) for a, b in zip(first, second, strict=True))


def scaled(color: Color, factor: float) -> Color:
    """The colour under `factor` times the light, clipped."""
    return tuple(max(0, min(255, round(channel * factor))) for channel in color)


def luminance(color: Color) -> float:
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


def distance(first: Color, second: Color) -> float:
    """Euclidean distance in RGB; 60 and more is plainly another colour."""
    return float(np.hypot(np.hypot(first[0] - second[0], first[1] - second[1]), first[2] - second[2]))


class Wardrobe:
    """Draws colours for one identity, from a palette that shrinks towards a dull grey as the difficulty rises."""

    def __init__(self, rng: np.random.Generator, palette: dict[str, Color], difficulty: float):
        self.rng = rng
        self.spread = 1.0 - 0.6 * difficulty**2  # squared: up to the middle the colours stay easy to tell apart
        self.palette = tuple(palette.values())

    def draw(self, unlike: Color | None = None) -> Color:
        """A colour of the palette, slightly varied; plainly different from `unlike` if that is given."""
        choices = [c for c in self.palette if unlike is None or distance(c, unlike) > 90 * self.spread]
        base = np.array(pick(self.rng, choices or self.palette), dtype=np.float64)
        varied = base + self.rng.normal(0.0, 7.0, 3)
        dull = np.array((96.0, 94.0, 92.0))
        return tuple(int(channel) for channel in np.clip(np.rint(dull + (varied - dull) * self.spread), 0, 255))
