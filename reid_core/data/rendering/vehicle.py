"""Draws a vehicle: a side profile drawn out to its width, seen from any side and from above.

Vehicle coordinates are (forward, lateral, up) in metres from the middle of the ground below it; lateral grows to the
driver's left.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from reid_core.data.rendering.colors import Color, mix, scaled
from reid_core.data.rendering.figure import Figure, Point
from reid_core.data.rendering.vehicle_look import VehicleLook

Point3 = tuple[float, float, float]
FAR = 17.0  # metres from the camera to the vehicle, for the perspective


@dataclass(frozen=True)
class Solid:
    """A profile of (forward, up) points from the front's lower edge over the top to the rear's lower edge.

    parts: what each edge of the profile is: "front", "hood", "glass", "roof", "lid", "rear". half: of the width in
    metres at and below `belt`; at the top the cabin is narrower by `taper`. windows: (rear, front) of side windows,
    in metres. cargo: whether it has the cargo's colour.
    """

    profile: tuple[Point, ...]
    parts: tuple[str, ...]
    half: float
    belt: float
    taper: float = 0.8
    windows: tuple[tuple[float, float], ...] = ()
    cargo: bool = False


@dataclass(frozen=True)
class Body:
    """The solids of a vehicle, its wheels' places along it, their radius, and where the waist for stripes is."""

    solids: tuple[Solid, ...]
    wheels: tuple[float, ...]
    radius: float
    waist: float
    doors: tuple[float, ...] = field(default=())


_CAR = ("front", "front", "hood", "glass", "roof", "glass", "lid", "rear", "rear")
BODIES: dict[str, Body] = {
    "sedan": Body(
        (
            Solid(
                (
                    (2.35, 0.28),
                    (2.36, 0.62),
                    (2.2, 0.8),
                    (1.05, 0.98),
                    (0.35, 1.44),
                    (-0.85, 1.44),
                    (-1.55, 1.03),
                    (-2.25, 0.98),
                    (-2.36, 0.6),
                    (-2.33, 0.28),
                ),
                _CAR,
                0.9,
                0.98,
                0.78,
                ((-1.25, -0.32), (-0.22, 0.8)),
            ),
        ),
        (1.45, -1.4),
        0.34,
        0.72,
        (-0.27, 0.85),
    ),
    "hatchback": Body(
        (
            Solid(
                (
                    (2.0, 0.28),
                    (2.02, 0.62),
                    (1.88, 0.82),
                    (1.05, 1.0),
                    (0.4, 1.5),
                    (-1.3, 1.5),
                    (-1.8, 1.02),
                    (-1.98, 0.92),
                    (-1.98, 0.28),
                ),
                (*_CAR[:5], "glass", "rear", "rear"),
                0.87,
                1.0,
                0.8,
                ((-1.5, -0.3), (-0.2, 0.8)),
            ),
        ),
        (1.25, -1.25),
        0.33,
        0.74,
        (-0.25, 0.85),
    ),
    "suv": Body(
        (
            Solid(
                (
                    (2.3, 0.42),
                    (2.32, 0.88),
                    (2.18, 1.05),
                    (1.15, 1.16),
                    (0.6, 1.78),
                    (-1.85, 1.78),
                    (-2.22, 1.16),
                    (-2.3, 1.0),
                    (-2.3, 0.42),
                ),
                (*_CAR[:5], "glass", "rear", "rear"),
                0.96,
                1.16,
                0.84,
                ((-1.95, -1.1), (-1.0, -0.15), (-0.05, 0.85)),
            ),
        ),
        (1.42, -1.38),
        0.42,
        0.86,
        (-0.1, 0.9),
    ),
    "van": Body(
        (
            Solid(
                (
                    (2.5, 0.34),
                    (2.52, 0.84),
                    (2.38, 1.06),
                    (1.85, 1.24),
                    (1.2, 2.12),
                    (-2.42, 2.16),
                    (-2.5, 1.3),
                    (-2.5, 0.34),
                ),
                (*_CAR[:5], "rear_glass", "rear"),
                0.98,
                1.24,
                0.88,
                ((0.55, 1.55),),
            ),
        ),
        (1.6, -1.55),
        0.36,
        0.85,
        (0.5, 1.55),
    ),
    "bus": Body(
        (
            Solid(
                ((4.0, 0.36), (4.02, 1.1), (3.92, 2.85), (-3.95, 2.85), (-4.0, 1.3), (-4.0, 0.36)),
                ("front", "glass", "roof", "rear_glass", "rear"),
                1.22,
                1.35,
                0.95,
                (*((x, x + 1.05) for x in (-3.7, -2.5, -1.3, -0.1, 1.1)), (2.5, 3.7)),
            ),
        ),
        (2.5, -2.3),
        0.46,
        0.95,
        (2.35,),
    ),
    "truck": Body(
        (
            Solid(
                ((3.2, 0.45), (3.22, 1.1), (3.12, 1.25), (2.75, 2.2), (1.55, 2.25), (1.5, 0.45)),
                ("front", "front", "glass", "roof", "rear"),
                1.05,
                1.25,
                0.9,
                ((1.95, 2.75),),
            ),
            Solid(
                ((1.3, 0.75), (1.3, 2.85), (-3.1, 2.85), (-3.1, 0.75)),
                ("front_wall", "roof", "rear_wall"),
                1.15,
                2.85,
                1.0,
                (),
                True,
            ),
        ),
        (2.3, -2.0),
        0.46,
        1.5,
        (1.9,),
    ),
    "pickup": Body(
        (
            Solid(
                (
                    (2.5, 0.42),
                    (2.52, 0.85),
                    (2.38, 1.02),
                    (1.3, 1.12),
                    (0.75, 1.72),
                    (-0.55, 1.72),
                    (-0.75, 1.08),
                    (-0.78, 0.42),
                ),
                ("front", "front", "hood", "glass", "roof", "glass", "rear_wall"),
                0.94,
                1.12,
                0.82,
                ((-0.5, 0.2), (0.3, 1.0)),
            ),
            Solid(
                ((-0.78, 0.42), (-0.78, 1.02), (-2.55, 1.02), (-2.55, 0.42)),
                ("front_wall", "bed", "rear"),
                0.94,
                1.02,
                1.0,
            ),
        ),
        (1.6, -1.65),
        0.42,
        0.85,
        (0.25, 1.05),
    ),
}


@dataclass(frozen=True)
class VehiclePose:
    """In radians. yaw: 0 drives towards the camera, pi/2 to the right. pitch: how far the camera looks down."""

    yaw: float
    pitch: float


def draw_vehicle(figure: Figure, look: VehicleLook, pose: VehiclePose, box: tuple[float, float, float, float]) -> None:
    """Paint the vehicle so that it fills the box (left, top, right, bottom), in pixels of the canvas, as well as its
    shape allows: a flat shape is stretched upwards by at most 1.35, as boxes are when they are resized."""
    painter = _Painter(figure, look, pose)
    painter.fit(box)
    painter.paint()


def viewpoint(yaw: float) -> int:
    """VeRi-776's number: front, rear, left, left front, left rear, right, right front, right rear."""
    octant = round(yaw / (math.pi / 4.0)) % 8
    # Yaw pi/2 drives to the right: the camera sees its right-hand side.
    return (0, 6, 5, 7, 1, 4, 2, 3)[octant]


class _Painter:
    def __init__(self, figure: Figure, look: VehicleLook, pose: VehiclePose):
        self.figure, self.look = figure, look
        self.body = BODIES[look.body]
        self.cos, self.sin = math.cos(pose.yaw), math.sin(pose.yaw)
        self.level, self.down = math.cos(pose.pitch), math.sin(pose.pitch)
        self.scale_x = self.scale_y = 1.0
        self.left = self.top = 0.0
        light = np.array((0.55, 0.45 * figure.light, 0.8))  # towards the camera, sideways, up
        self.light = light / np.linalg.norm(light)

    # -- space -----------------------------------------------------------------------------------------------------

    def turned(self, point: Point3) -> Point3:
        """(right, towards the camera, up), in metres."""
        forward, lateral, up = point[0] * self.look.stretch, point[1], point[2]
        return forward * self.sin + lateral * self.cos, forward * self.cos - lateral * self.sin, up

    def raw(self, point: Point3) -> Point:
        right, near, up = self.turned(point)
        depth = near * self.level + up * self.down
        shrink = FAR / (FAR - depth)
        return right * shrink, (near * self.down - up * self.level) * shrink

    def at(self, point: Point3) -> Point:
        x, y = self.raw(point)
        return self.left + x * self.scale_x, self.top + y * self.scale_y

    def fit(self, box: tuple[float, float, float, float]) -> None:
        corners = [
            self.raw((x, side * solid.half, z))
            for solid in self.body.solids
            for x, z in solid.profile
            for side in (-1, 1)
        ]
        corners += [self.raw((x, side * self.body.solids[0].half, 0.0)) for x in self.body.wheels for side in (-1, 1)]
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        across, down = max(xs) - min(xs), max(ys) - min(ys)
        self.scale_x = min((box[2] - box[0]) / across, 1.35 * (box[3] - box[1]) / down)
        self.scale_y = min((box[3] - box[1]) / down, 1.35 * self.scale_x)
        self.scale_x = min(self.scale_x, 1.35 * self.scale_y)
        self.left = (box[0] + box[2]) / 2 - (min(xs) + max(xs)) / 2 * self.scale_x
        self.top = (box[1] + box[3]) / 2 - (min(ys) + max(ys)) / 2 * self.scale_y

    def seen(self, points: Sequence[Point]) -> bool:
        """Whether a face shows its outside: its corners then run clockwise on the canvas."""
        area = 0.0
        for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
            area += x0 * y1 - x1 * y0
        return area > 0

    def shade(self, points: Sequence[Point3]) -> int:
        a, b, c = (np.array(self.turned(point)) for point in points[:3])
        normal = np.cross(b - a, c - a)
        normal /= max(float(np.linalg.norm(normal)), 1e-9)
        sideways = np.array((normal[1], normal[0], normal[2]))
        return int(255 * (0.62 + 0.38 * abs(float(sideways @ self.light))))

    def face(self, points: Sequence[Point3], color: Color) -> bool:
        """Paint a face if it is seen; says whether it was."""
        flat = [self.at(point) for point in points]
        if not self.seen(flat):
            return False
        self.figure.polygon(flat, color, self.shade(points))
        return True

    def patch(self, points: Sequence[Point3], color: Color) -> None:
        self.figure.mark([self.at(point) for point in points], color)

    # -- painting --------------------------------------------------------------------------------------------------

    def paint(self) -> None:
        self.shadow()
        solids = sorted(
            self.body.solids, key=lambda solid: sum(x for x, _ in solid.profile) / len(solid.profile) * self.cos
        )
        for solid in solids:
            self.solid(solid)
        self.wheels()
        self.rooftop()

    def shadow(self) -> None:
        x0, x1, half = self.ends()[1], self.ends()[0], self.body.solids[0].half
        ground = [(x1, half, 0.0), (x1, -half, 0.0), (x0, -half, 0.0), (x0, half, 0.0)]
        self.figure.polygon([self.at(point) for point in ground], (34, 34, 36))
        floor = 0.75 * self.body.radius  # the dark below the sills, seen from the side
        for side in (-1, 1):
            y = side * half * 0.96
            self.figure.polygon(
                [self.at(p) for p in ((x1, y, 0.12), (x0, y, 0.12), (x0, y, 2 * floor), (x1, y, 2 * floor))],
                (26, 26, 28),
            )
        for x in (x0, x1):
            self.figure.polygon(
                [
                    self.at(p)
                    for p in (
                        (x, -half * 0.9, 0.15),
                        (x, half * 0.9, 0.15),
                        (x, half * 0.9, 0.6),
                        (x, -half * 0.9, 0.6),
                    )
                ],
                (26, 26, 28),
            )

    def ends(self) -> Point:
        xs = [x for solid in self.body.solids for x, _ in solid.profile]
        return max(xs) - 0.06, min(xs) + 0.06

    def half_at(self, solid: Solid, up: float) -> float:
        top = max(z for _, z in solid.profile)
        if up <= solid.belt or top <= solid.belt:
            return solid.half
        return solid.half * (1.0 - (1.0 - solid.taper) * (up - solid.belt) / (top - solid.belt))

    def solid(self, solid: Solid) -> None:
        paint = self.look.cargo if solid.cargo else self.look.paint
        faces = []
        for index, part in enumerate(solid.parts):
            (x0, z0), (x1, z1) = solid.profile[index], solid.profile[index + 1]
            y0, y1 = self.half_at(solid, z0), self.half_at(solid, z1)
            corners = ((x0, y0, z0), (x0, -y0, z0), (x1, -y1, z1), (x1, y1, z1))
            faces.append(((x0 + x1) / 2 * self.cos, lambda corners=corners, part=part: self.edge(corners, part, paint)))
        for side in (-1, 1):
            faces.append((-side * self.sin * 0.05 + 0.01, lambda side=side: self.flank(solid, side, paint)))
        for _, draw in sorted(faces, key=lambda entry: entry[0]):
            draw()

    def edge(self, corners: tuple[Point3, ...], part: str, paint: Color) -> None:
        """One face across the vehicle, with its glass, lamps or stripes."""
        look = self.look
        color = {"roof": look.roof, "bed": scaled(paint, 0.45)}.get(part, paint)
        lower = look.bumper == "black" and part in ("front", "rear") and corners[0][2] < 0.7 and corners[2][2] < 0.95
        if lower:
            color = (44, 44, 46)
        elif (
            look.decoration == "two_tone"
            and part in ("front", "rear")
            and min(c[2] for c in corners) < self.body.waist - 0.1
        ):
            color = look.second
        if not self.face(corners, color):
            return
        inset = self.inset(corners)
        if part in ("glass", "rear_glass"):
            low, high = (0.06, 0.94) if part == "glass" else (0.12, 0.6)
            first, last = (low, high) if corners[0][2] < corners[2][2] else (1 - high, 1 - low)
            self.patch(inset(0.07, 0.93, first, last), look.glass)
            self.patch(inset(0.2, 0.42, first, last), mix(look.glass, (255, 255, 255), 0.16))
        if look.decoration == "racing_stripes" and part in ("hood", "roof", "lid") and not lower:
            for start in (0.3, 0.56):
                self.patch(inset(start, start + 0.14, 0.0, 1.0), look.second)
        if look.decoration == "door_panel" and part in ("hood", "rear_wall"):
            self.patch(inset(0.25, 0.75, 0.2, 0.8), look.second)
        if part in ("front", "rear") or (part in ("rear_glass", "rear_wall") and corners[0][2] > 1.5):
            self.face_fittings(corners, part, inset)

    @staticmethod
    def inset(corners: tuple[Point3, ...]):
        """A function that gives the corners of a part of the face, in shares of its width and of its length."""
        a, b, c, d = (np.array(corner) for corner in corners)

        def part(left: float, right: float, start: float, end: float) -> list[Point3]:
            def point(across: float, along: float) -> Point3:
                first, second = a + (b - a) * across, d + (c - d) * across
                return tuple((first + (second - first) * along).tolist())

            return [point(left, start), point(right, start), point(right, end), point(left, end)]

        return part

    def face_fittings(self, corners: tuple[Point3, ...], part: str, inset) -> None:
        look = self.look
        front = part == "front"
        low = min(c[2] for c in corners)
        tall = abs(corners[2][2] - corners[0][2])
        if part in ("rear_glass", "rear_wall"):
            return
        if low < 0.5:  # the lower face carries plate and grille
            along = (0.2, 0.2 + min(0.3, 0.13 / max(tall, 0.1)))
            along = along if front else (1 - along[1] - 0.2, 1 - along[0] - 0.2)
            if front:
                self.patch(inset(0.26, 0.74, 0.5, 0.9), (32, 32, 34))
            self.patch(inset(0.36, 0.64, along[0] - 0.02, along[1] + 0.12), look.plate)
        if tall > 0.1 and (low > 0.5 or tall > 0.6):
            lamp = (244, 240, 214) if front else (206, 28, 24)
            middle = look.lamp if front else 1 - look.lamp
            span = (0.15, 0.95) if tall < 0.45 else (middle - 0.12, middle + 0.12)
            for start, end in ((0.03, 0.2), (0.8, 0.97)):
                self.patch(inset(start, end, *span), lamp)
            if not front and look.spare:
                self.patch(inset(0.34, 0.66, 0.1, 0.95), (30, 30, 32))
            center, width = 0.5 + 0.3 * look.badge[0], look.badge[1] / 2
            self.patch(
                inset(center - width, center + width, span[0] + 0.1, span[1] - 0.1),
                mix(look.second, (200, 200, 204), 0.4),
            )

    def flank(self, solid: Solid, side: int, paint: Color) -> None:
        """The side of a solid: lower body, cabin, windows, doors and decoration."""
        look = self.look
        order = solid.profile if side > 0 else solid.profile[::-1]
        outline = [(x, side * self.half_at(solid, z), z) for x, z in order]
        if not self.face(outline, paint):
            return
        top, low = max(z for _, z in solid.profile), min(z for _, z in solid.profile)
        front, rear = self.span(solid, self.body.waist)
        y = side * solid.half

        def band(x0: float, x1: float, z0: float, z1: float) -> list[Point3]:
            return [
                (x0, side * self.half_at(solid, z0), z0),
                (x1, side * self.half_at(solid, z0), z0),
                (x1, side * self.half_at(solid, z1), z1),
                (x0, side * self.half_at(solid, z1), z1),
            ]

        if look.roof != paint and not solid.cargo and top > solid.belt + 0.2:
            ends = self.span(solid, top - 0.12)
            self.patch(band(ends[1], ends[0], top - 0.12, top), look.roof)
        if look.decoration == "two_tone" and not solid.cargo:
            self.patch(band(rear, front, low, self.body.waist - 0.05), look.second)
        elif look.decoration == "side_stripe":
            self.patch(band(rear, front, self.body.waist - 0.02, self.body.waist + 0.17), look.second)
        elif look.decoration == "door_panel":
            middle, reach = (front + rear) / 2, 0.22 * (front - rear)
            self.patch(
                band(middle - reach, middle + reach, low + 0.12, max(self.body.waist + 0.15, 0.55 * (top + low))),
                look.second,
            )
        elif look.decoration in ("dots", "hoops"):
            tall = 0.16 * (top - low)
            for x in np.arange(rear + 0.35, front - 0.2, 0.62):
                wide = 0.17 if look.decoration == "dots" else 0.12
                z0, z1 = (
                    (self.body.waist - tall, self.body.waist + tall)
                    if look.decoration == "dots"
                    else (low, solid.belt - 0.05)
                )
                self.patch(band(x - wide, x + wide, z0, z1), look.second)
        if solid.windows:
            self.windows(solid, band, top)
        for door in self.body.doors if not solid.cargo else ():
            if rear < door < front:
                self.figure.line(
                    self.at((door, y, solid.belt - 0.04)),
                    self.at((door, y, low + 0.05)),
                    0.02 * self.scale_x,
                    scaled(paint, 0.55),
                )
                self.patch(band(door - 0.24, door - 0.08, solid.belt - 0.16, solid.belt - 0.1), scaled(paint, 0.5))

    def windows(self, solid: Solid, band, top: float) -> None:
        low, high = solid.belt + 0.03, top - 0.13
        for rear, front in solid.windows:
            upper = self.span(solid, high)
            corners = band(rear, front, low, high)
            # The pillars lean: the upper corners keep inside the roof.
            corners[2] = (min(front, upper[0] - 0.06), *corners[2][1:])
            corners[3] = (max(rear, upper[1] + 0.06), *corners[3][1:])
            self.patch(corners, self.look.glass)

    def span(self, solid: Solid, up: float) -> Point:
        """(front, rear) of the profile at a height."""
        crossings = []
        for (x0, z0), (x1, z1) in zip(solid.profile, solid.profile[1:], strict=False):
            if min(z0, z1) <= up <= max(z0, z1) and z0 != z1:
                crossings.append(x0 + (x1 - x0) * (up - z0) / (z1 - z0))
        xs = crossings or [x for x, _ in solid.profile]
        return max(xs), min(xs)

    def wheels(self) -> None:
        look, radius = self.look, self.body.radius
        side = -1 if self.sin > 0 else 1
        half = self.body.solids[0].half
        for x in self.body.wheels:
            if abs(self.sin) > 0.12:
                self.disc(x, side * (half + 0.01), radius * 1.16, (22, 22, 24), radius)
                self.disc(x, side * (half + 0.03), radius, (38, 38, 40), radius)
                rim = {"spokes": (186, 188, 192), "disc": (150, 152, 156), "dark": (64, 64, 68)}[look.wheel]
                self.disc(x, side * (half + 0.04), 0.64 * radius, rim, radius)
                if look.wheel == "spokes":
                    for angle in np.arange(5) * 2 * math.pi / 5:
                        tip = (
                            x + 0.6 * radius * math.cos(angle),
                            side * (half + 0.04),
                            radius + 0.6 * radius * math.sin(angle),
                        )
                        self.figure.line(
                            self.at((x, side * (half + 0.04), radius)), self.at(tip), 0.05 * self.scale_x, (60, 60, 64)
                        )
                elif look.wheel == "disc":
                    self.disc(x, side * (half + 0.04), 0.22 * radius, (60, 60, 64), radius)

    def disc(self, x: float, y: float, radius: float, color: Color, up: float) -> None:
        steps = np.arange(18) * 2 * math.pi / 18
        self.patch([(x + radius * math.cos(a), y, up + radius * math.sin(a)) for a in steps], color)

    def rooftop(self) -> None:
        look = self.look
        solid = self.body.solids[0]
        top = max(z for _, z in solid.profile)
        front, rear = self.span(solid, top - 0.03)
        half = self.half_at(solid, top)
        middle = (front + rear) / 2
        if look.top == "rack":
            for side in (-1, 1):
                ends = (
                    self.at((front - 0.1, side * 0.9 * half, top + 0.1)),
                    self.at((rear + 0.1, side * 0.9 * half, top + 0.1)),
                )
                self.figure.line(*ends, 0.07 * self.scale_y, (58, 58, 62))
            for share in (0.25, 0.75):
                x = rear + share * (front - rear)
                self.figure.line(
                    self.at((x, -0.9 * half, top + 0.1)),
                    self.at((x, 0.9 * half, top + 0.1)),
                    0.07 * self.scale_y,
                    (58, 58, 62),
                )
        elif look.top != "none":
            length, wide, tall = {"box": (0.75, 0.6, 0.3), "sign": (0.16, 0.42, 0.24), "beacon": (0.14, 0.75, 0.16)}[
                look.top
            ]
            self.cuboid(
                middle,
                length * (front - rear) / 2 if look.top == "box" else length,
                wide * half,
                top,
                tall,
                look.top_color,
            )

    def cuboid(self, middle: float, length: float, half: float, low: float, tall: float, color: Color) -> None:
        x0, x1, high = middle - length, middle + length, low + tall
        self.face([(x1, half, low), (x1, -half, low), (x1, -half, high), (x1, half, high)], color)
        self.face([(x0, -half, low), (x0, half, low), (x0, half, high), (x0, -half, high)], color)
        self.face([(x1, -half, low), (x0, -half, low), (x0, -half, high), (x1, -half, high)], color)
        self.face([(x0, half, low), (x1, half, low), (x1, half, high), (x0, half, high)], color)
        self.face([(x1, half, high), (x1, -half, high), (x0, -half, high), (x0, half, high)], color)
