"""Backgrounds: one wide panorama per camera, in two layers that slide over each other from image to image."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from reid_core.data.rendering.colors import CLOTHES, Color, mix, scaled
from reid_core.data.rendering.randomness import pick

PANORAMA = 5.0  # width of a panorama in widths of a picture
MARGIN = 1.4  # height of a panorama in heights of a picture
WALLS: tuple[Color, ...] = (
    (172, 160, 146),
    (150, 92, 74),
    (196, 190, 178),
    (120, 126, 134),
    (206, 178, 130),
    (96, 104, 98),
)
GROUNDS: tuple[Color, ...] = ((132, 130, 126), (166, 156, 140), (104, 104, 108), (150, 128, 108), (180, 178, 172))
GREENS: tuple[Color, ...] = ((70, 104, 48), (96, 122, 58), (52, 84, 50), (120, 132, 62))


@dataclass(frozen=True)
class Scene:
    """far: RGB, the place itself. near: RGBA, what stands in front of it. Both are larger than a picture."""

    far: Image.Image
    near: Image.Image

    def view(self, size: tuple[int, int], across: float, across_near: float, down: float) -> Image.Image:
        """A picture of the size; across, across_near and down in [0, 1] say where the layers are cut out."""
        room, spare = self.far.width - size[0], self.far.height - size[1]
        top = round(down * spare)
        left, left_near = round(across * room), round(across_near * room)
        picture = self.far.crop((left, top, left + size[0], top + size[1]))
        near = self.near.crop((left_near, top, left_near + size[0], top + size[1]))
        picture.paste(near, (0, 0), near)
        return picture


def draw_scene(rng: np.random.Generator, kind: str, size: tuple[int, int], place: int) -> Scene:
    """The place that a camera looks at. size: (width, height) of a picture; place: counts the cameras, so that
    neighbouring cameras see different sorts of place."""
    wide, tall = round(size[0] * PANORAMA), round(size[1] * MARGIN)
    far, near = Image.new("RGB", (wide, tall)), Image.new("RGBA", (wide, tall))
    painter = _ScenePainter(rng, far, near, unit=size[1])
    if kind == "vehicle":
        painter.road()
    else:
        (painter.street, painter.park, painter.shops, painter.station)[place % 4]()
    return Scene(_mottled(rng, far), near)


def _mottled(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Uneven light and dirt: coarse and fine blotches multiplied onto the picture."""
    for cells, low in (((12, 6), 190), ((96, 40), 215)):
        blotches = Image.fromarray(rng.integers(low, 256, (cells[1], cells[0]), dtype=np.uint8))
        blotches = blotches.resize(picture.size, Image.Resampling.BICUBIC)
        picture = ImageChops.multiply(picture, Image.merge("RGB", (blotches,) * 3))
    return picture


class _ScenePainter:
    def __init__(self, rng: np.random.Generator, far: Image.Image, near: Image.Image, unit: float):
        self.rng, self.unit = rng, unit
        self.wide, self.tall = far.size
        self.far, self.near = ImageDraw.Draw(far), ImageDraw.Draw(near)
        self.clothes = tuple(CLOTHES.values())

    # -- places ------------------------------------------------------------------------------------------------------

    def street(self) -> None:
        horizon = self.tall * self.rng.uniform(0.52, 0.62)
        wall = pick(self.rng, WALLS)
        self.far.rectangle((0, 0, self.wide, horizon), fill=wall)
        self.bricks(horizon, scaled(wall, 0.86))
        self.openings(horizon, wall)
        self.ground(horizon, pick(self.rng, GROUNDS))
        self.scatter(horizon, ("bin", "bush", "car", "person", "post", "person"))

    def park(self) -> None:
        horizon = self.tall * self.rng.uniform(0.36, 0.5)
        self.far.rectangle((0, 0, self.wide, horizon), fill=mix((188, 208, 226), (220, 220, 214), self.rng.random()))
        for _ in range(26):
            self.tree(self.far, self.rng.uniform(0, self.wide), horizon + self.rng.uniform(-0.02, 0.04) * self.unit)
        grass = pick(self.rng, GREENS)
        self.ground(horizon, grass, tiles=False)
        path = pick(self.rng, GROUNDS)
        low = horizon + 0.3 * (self.tall - horizon)
        self.far.polygon(
            [(0, low), (self.wide, low + 0.05 * self.unit), (self.wide, self.tall), (0, self.tall)], fill=path
        )
        self.scatter(horizon, ("bush", "bench", "person", "post", "bush"))

    def shops(self) -> None:
        horizon = self.tall * self.rng.uniform(0.6, 0.7)
        x = 0.0
        while x < self.wide:
            width = self.unit * self.rng.uniform(0.35, 0.7)
            wall, sign = pick(self.rng, WALLS), pick(self.rng, self.clothes)
            self.far.rectangle((x, 0, x + width, horizon), fill=wall)
            pane = mix((60, 70, 80), (214, 214, 190), self.rng.random())
            self.far.rectangle((x + 0.06 * width, 0.42 * horizon, x + 0.94 * width, 0.95 * horizon), fill=pane)
            for _ in range(4):  # goods in the window
                left, top = x + self.rng.uniform(0.1, 0.8) * width, self.rng.uniform(0.5, 0.8) * horizon
                goods = pick(self.rng, self.clothes)
                self.far.rectangle((left, top, left + 0.1 * width, top + 0.12 * horizon), fill=goods)
            self.far.rectangle((x, 0.24 * horizon, x + width, 0.38 * horizon), fill=sign)
            x += width
        self.ground(horizon, pick(self.rng, GROUNDS))
        self.scatter(horizon, ("person", "bin", "person", "post", "person"))

    def station(self) -> None:
        horizon = self.tall * self.rng.uniform(0.48, 0.6)
        wall = pick(self.rng, WALLS)
        self.far.rectangle((0, 0, self.wide, horizon), fill=wall)
        panel = self.unit * self.rng.uniform(0.25, 0.45)
        for column in range(int(self.wide / panel) + 1):
            x = column * panel
            self.far.rectangle((x, 0, x + 0.03 * self.unit, horizon), fill=scaled(wall, 0.72))
            if self.rng.random() < 0.45:
                poster, ink = pick(self.rng, self.clothes), pick(self.rng, self.clothes)
                box = (x + 0.2 * panel, 0.3 * horizon, x + 0.9 * panel, 0.75 * horizon)
                self.far.rectangle(box, fill=poster)
                self.far.ellipse(
                    (box[0] + 0.1 * panel, box[1] + 0.1 * horizon, box[2] - 0.2 * panel, box[3] - 0.1 * horizon),
                    fill=ink,
                )
        stripe = pick(self.rng, self.clothes)
        self.far.rectangle((0, 0.1 * horizon, self.wide, 0.18 * horizon), fill=stripe)
        self.ground(horizon, pick(self.rng, GROUNDS))
        self.scatter(horizon, ("post", "bench", "person", "bin", "person"))

    def road(self) -> None:
        horizon = self.tall * self.rng.uniform(0.16, 0.34)
        self.far.rectangle((0, 0, self.wide, horizon), fill=mix((176, 192, 204), pick(self.rng, WALLS), 0.5))
        for _ in range(18):
            self.tree(self.far, self.rng.uniform(0, self.wide), horizon)
        asphalt = mix((92, 93, 96), pick(self.rng, GROUNDS), self.rng.uniform(0.0, 0.7))
        self.far.rectangle((0, horizon, self.wide, self.tall), fill=asphalt)
        kerb = horizon + 0.1 * self.unit
        self.far.rectangle((0, horizon, self.wide, kerb), fill=pick(self.rng, GREENS + GROUNDS))
        self.far.rectangle((0, kerb, self.wide, kerb + 0.02 * self.unit), fill=(196, 194, 188))
        paint = pick(self.rng, ((226, 226, 220), (226, 190, 70)))
        for share in (0.34, 0.86):
            y, dash = horizon + share * (self.tall - horizon), self.unit * self.rng.uniform(0.3, 0.6)
            for column in range(int(self.wide / dash) + 1):
                x = column * dash
                self.far.polygon(
                    [
                        (x, y),
                        (x + 0.55 * dash, y),
                        (x + 0.5 * dash, y + 0.03 * self.unit),
                        (x - 0.05 * dash, y + 0.03 * self.unit),
                    ],
                    fill=paint,
                )
        self.scatter(horizon + 0.02 * self.unit, ("car", "post", "bush", "person", "car"))

    # -- parts -------------------------------------------------------------------------------------------------------

    def bricks(self, horizon: float, color: Color) -> None:
        step = 0.05 * self.unit
        for row in range(int(horizon / step) + 1):
            y = row * step
            self.far.line((0, y, self.wide, y), fill=color, width=max(1, round(0.006 * self.unit)))
            for column in range(int(self.wide / (2 * step)) + 1):
                x = (2 * column + row % 2) * step
                self.far.line((x, y, x, y + step), fill=color, width=max(1, round(0.006 * self.unit)))

    def openings(self, horizon: float, wall: Color) -> None:
        x = 0.0
        while x < self.wide:
            width = self.unit * self.rng.uniform(0.16, 0.26)
            glass = mix((48, 58, 70), (150, 176, 196), self.rng.random())
            top, bottom = 0.12 * horizon, horizon * pick(self.rng, (0.62, 0.66, 1.0))
            frame = scaled(wall, 1.25) if bottom < horizon else pick(self.rng, self.clothes)
            self.far.rectangle((x, top, x + width, bottom), fill=frame)
            rim = 0.12 * width
            self.far.rectangle((x + rim, top + rim, x + width - rim, bottom - rim), fill=glass)
            self.far.line((x + 0.5 * width, top, x + 0.5 * width, bottom), fill=frame, width=max(1, round(rim / 2)))
            x += width + self.unit * self.rng.uniform(0.12, 0.4)

    def ground(self, horizon: float, color: Color, tiles: bool = True) -> None:
        """A floor that darkens towards the wall; tiles shrink towards it."""
        steps = 12
        for step in range(steps):
            y = horizon + (self.tall - horizon) * (step / steps) ** 1.5
            self.far.rectangle((0, y, self.wide, self.tall), fill=scaled(color, 0.82 + 0.22 * step / steps))
            if tiles:
                self.far.line((0, y, self.wide, y), fill=scaled(color, 0.7), width=max(1, round(0.005 * self.unit)))
        if tiles:
            gap = 0.22 * self.unit
            for column in range(-4, int(self.wide / gap) + 5):
                x = column * gap
                self.far.line(
                    (x, horizon, x + 2.0 * (x % (3 * gap) - gap), self.tall),
                    fill=scaled(color, 0.74),
                    width=max(1, round(0.005 * self.unit)),
                )

    def tree(self, draw: ImageDraw.ImageDraw, x: float, foot: float) -> None:
        tall = self.unit * self.rng.uniform(0.3, 0.6)
        draw.rectangle((x - 0.018 * self.unit, foot - 0.5 * tall, x + 0.018 * self.unit, foot), fill=(86, 66, 50))
        green = pick(self.rng, GREENS)
        for _ in range(7):
            middle = (x + self.rng.normal(0, 0.09) * self.unit, foot - tall * self.rng.uniform(0.5, 1.0))
            radius = self.unit * self.rng.uniform(0.06, 0.13)
            draw.ellipse(
                (middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius),
                fill=scaled(green, self.rng.uniform(0.75, 1.2)),
            )

    def scatter(self, horizon: float, things: tuple[str, ...]) -> None:
        """Put things on the near layer, with gaps in which the place itself shows."""
        x = self.rng.uniform(0.0, 0.3) * self.unit
        while x < self.wide:
            foot = horizon + self.rng.uniform(0.04, 0.16) * self.unit
            self.thing(pick(self.rng, things), x, foot, self.unit * self.rng.uniform(0.8, 1.2))
            x += self.unit * self.rng.uniform(0.22, 0.6)

    def thing(self, name: str, x: float, foot: float, unit: float) -> None:
        draw, color = self.near, pick(self.rng, self.clothes)
        if name == "post":
            draw.rectangle((x, foot - 0.9 * unit, x + 0.025 * unit, foot), fill=(84, 86, 90))
        elif name == "bin":
            draw.rectangle((x, foot - 0.18 * unit, x + 0.12 * unit, foot), fill=scaled(color, 0.7))
            draw.rectangle((x - 0.01 * unit, foot - 0.2 * unit, x + 0.13 * unit, foot - 0.17 * unit), fill=(60, 60, 62))
        elif name == "bench":
            for height in (0.08, 0.13, 0.18):
                draw.rectangle(
                    (x, foot - height * unit, x + 0.3 * unit, foot - (height - 0.025) * unit), fill=(120, 84, 54)
                )
            draw.rectangle((x + 0.03 * unit, foot - 0.1 * unit, x + 0.05 * unit, foot), fill=(60, 60, 60))
        elif name == "bush":
            green = pick(self.rng, GREENS)
            for _ in range(6):
                left, radius = x + self.rng.uniform(0, 0.2) * unit, self.rng.uniform(0.05, 0.09) * unit
                draw.ellipse(
                    (left, foot - 2 * radius, left + 2 * radius, foot), fill=scaled(green, self.rng.uniform(0.7, 1.2))
                )
        elif name == "car":
            draw.rounded_rectangle((x, foot - 0.15 * unit, x + 0.5 * unit, foot - 0.03 * unit), 0.04 * unit, fill=color)
            draw.polygon(
                [
                    (x + 0.1 * unit, foot - 0.14 * unit),
                    (x + 0.16 * unit, foot - 0.23 * unit),
                    (x + 0.34 * unit, foot - 0.23 * unit),
                    (x + 0.42 * unit, foot - 0.14 * unit),
                ],
                fill=(54, 62, 72),
            )
            for wheel in (0.1, 0.38):
                draw.ellipse(
                    (x + (wheel - 0.035) * unit, foot - 0.075 * unit, x + (wheel + 0.035) * unit, foot),
                    fill=(26, 26, 28),
                )
        else:  # a person far away
            tall = 0.42 * unit
            legs = pick(self.rng, self.clothes)
            draw.rectangle((x, foot - 0.48 * tall, x + 0.1 * tall, foot), fill=legs)
            draw.rectangle((x + 0.12 * tall, foot - 0.48 * tall, x + 0.2 * tall, foot), fill=legs)
            draw.rounded_rectangle(
                (x - 0.03 * tall, foot - 0.86 * tall, x + 0.23 * tall, foot - 0.45 * tall), 0.05 * tall, fill=color
            )
            draw.ellipse((x + 0.03 * tall, foot - tall, x + 0.17 * tall, foot - 0.84 * tall), fill=(176, 130, 100))
