"""Draws a person: one jointed body in three dimensions, seen from any side.

Body coordinates are (lateral, up, forward) in units of the body's height: lateral grows to the person's left, up from
the ground, forward to where the person faces.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from PIL import ImageDraw

from reid_core.data.rendering.colors import Color, mix, scaled
from reid_core.data.rendering.figure import Figure, Point
from reid_core.data.rendering.person_look import PersonLook

# (height, lateral radius, radius front to back) of the trunk, from the neck down; the garment's hem is appended.
TRUNK = (
    (0.845, 0.035, 0.035),
    (0.828, 0.088, 0.05),
    (0.80, 0.116, 0.062),
    (0.73, 0.112, 0.072),
    (0.63, 0.094, 0.066),
    (0.53, 0.100, 0.072),
)
SHOULDER = 0.795


@dataclass(frozen=True)
class PersonPose:
    """yaw: 0 faces the camera, pi/2 walks to the right, in radians. phase: of the walking cycle, in radians.

    stride: swing of the legs in radians, 0 stands. arms: "swing", "pockets", "phone" or "folded". lean: sideways, as
    a share of height. tilt: how far the camera looks down, 0 is level.
    """

    yaw: float
    phase: float
    stride: float
    arms: str
    lean: float
    tilt: float


def draw_person(figure: Figure, look: PersonLook, pose: PersonPose, feet: Point, height: float) -> None:
    """Paint the person. feet: (x, y) on the canvas of the point between the feet; height: of the body, in pixels."""
    _Painter(figure, look, pose, feet, height).paint()


class _Painter:
    def __init__(self, figure: Figure, look: PersonLook, pose: PersonPose, feet: Point, height: float):
        self.figure, self.look, self.pose, self.feet, self.height = figure, look, pose, feet, height
        self.cos, self.sin = math.cos(pose.yaw), math.sin(pose.yaw)
        self.bob = 0.008 * abs(math.cos(pose.phase)) if pose.stride else 0.0

    def at(self, lateral: float, up: float, forward: float) -> Point:
        """Where a point of the body lies on the canvas."""
        x = self.feet[0] + self.height * (lateral * self.cos + forward * self.sin + self.pose.lean * up)
        return x, self.feet[1] - self.height * (up + self.bob - self.pose.tilt * self.depth(lateral, forward))

    def depth(self, lateral: float, forward: float) -> float:
        """Nearness to the camera; parts are painted in its order."""
        return forward * self.cos - lateral * self.sin

    def paint(self) -> None:
        parts: list[tuple[float, Callable[[], None]]] = [(0.0, self.trunk), (0.004, self.head)]
        for side in (-1, 1):
            swing = side * math.sin(self.pose.phase) * self.pose.stride
            # The whole of both legs lies behind the trunk's garment, the nearer leg over the other one.
            near = self.depth(side * 0.05, math.sin(swing) * 0.2)
            parts.append((-1.0 + near, lambda side=side, swing=swing: self.leg(side, swing)))
            nearness = self.depth(side * 0.14, 0.0) + 0.02
            parts.append((nearness, lambda side=side, swing=swing: self.arm(side, -swing)))
        if self.look.hair in ("long", "tail"):
            parts.append((-0.035 * self.cos, self.hanging_hair))
        carried = {
            "backpack": (-0.11 * self.cos, self.backpack),
            "shoulder": (self.depth(-0.12, 0) + 0.03, self.pouch),
            "suitcase": (self.depth(-0.2, -0.12) - 0.02, self.suitcase),
        }
        if self.look.bag in carried:
            parts.append(carried[self.look.bag])
        for _, part in sorted(parts, key=lambda entry: entry[0]):
            part()

    # -- trunk ---------------------------------------------------------------------------------------------------

    def half_width(self, lateral: float, front: float) -> float:
        """Half of the visible width of an elliptic section, in pixels."""
        return self.height * math.hypot(lateral * self.cos, front * self.sin)

    def outline(self, levels: list[tuple[float, float, float]]) -> list[Point]:
        girth = self.look.girth
        left, right = [], []
        for up, lateral, front in levels:
            x, y = self.at(0.0, up, 0.0)
            half = self.half_width(lateral * girth, front * girth)
            left.append((x - half, y))
            right.append((x + half, y))
        return left + right[::-1]

    def levels(self, hem: float) -> list[tuple[float, float, float]]:
        flare = 0.108 if hem > 0.4 else 0.135
        return [level for level in TRUNK if level[0] > hem + 0.02] + [(hem, flare, 0.078 if hem > 0.4 else 0.11)]

    def trunk(self) -> None:
        look = self.look
        if look.lower == "skirt" and look.hem > 0.4:
            skirt = self.outline([(0.56, 0.095, 0.068), (0.50, 0.112, 0.08), (0.315, 0.142, 0.115)])
            self.figure.round_polygon(skirt, look.lower_color)
        elif look.hem > 0.4:
            hips = self.outline([(0.56, 0.095, 0.068), (look.leg - 0.05, 0.098, 0.07)])
            self.figure.round_polygon(hips, look.lower_color)
        self.figure.textured(self.outline(self.levels(look.hem)), self.cloth, look.top)
        neck = self.outline([(0.885, 0.028, 0.028), (0.838, 0.034, 0.034)])
        self.figure.round_polygon(neck, look.skin, dark=130)
        if look.hem < 0.4:  # a belt gives coats and dresses a waist
            self.belt(0.60, mix(look.top, (20, 20, 20), 0.55))
        if look.bag == "backpack" and self.cos > -0.15:
            for side in (-1, 1):
                straps = [self.at(side * 0.07, 0.825, 0.05), self.at(side * 0.075, 0.62, 0.075)]
                self.figure.line(*straps, 0.026 * self.height, look.bag_color)
        if look.bag == "shoulder":
            front = 0.06 if self.cos > 0 else -0.06
            start, end = self.at(0.07, 0.83, front), self.at(-0.115 * look.girth, 0.52, front)
            self.figure.line(start, end, 0.02 * self.height, scaled(look.bag_color, 0.8))

    def belt(self, up: float, color: Color) -> None:
        self.figure.mark(self.outline([(up, 0.096, 0.067), (up - 0.022, 0.097, 0.068)]), color)

    def cloth(self, draw: ImageDraw.ImageDraw, corner: Point) -> None:
        """Decorate the upper garment; corner: the canvas position of the cloth's left upper corner."""
        look, height = self.look, self.height
        width, tall = draw._image.size
        top, middle = self.at(0, 0.83, 0)[1] - corner[1], self.at(0, 0.7, 0)[0] - corner[0]
        period, second = look.period * height, look.second
        if look.pattern in ("hoops", "wide_hoops", "check"):
            step = period * (1.7 if look.pattern == "wide_hoops" else 1.0)
            thick = 0.5 * step if look.pattern != "check" else 0.36 * step
            for row in range(1, int(tall / step) + 2):
                draw.rectangle((0, top + row * step, width, top + row * step + thick), fill=second)
        if look.pattern in ("pinstripes", "check"):
            thick = (0.4 if look.pattern == "pinstripes" else 0.3) * period
            turn = self.pose.yaw / math.pi * 3 * period  # the stripes wander over the body as it turns
            first = (middle + turn) % period - period
            for column in range(int(width / period) + 3):
                x = first + column * period
                draw.rectangle((x, 0, x + thick, tall), fill=second)
        if look.pattern == "dots":
            radius = 0.28 * period
            for row in range(int(tall / period) + 2):
                for column in range(-1, int(width / period) + 2):
                    x, y = (column + 0.5 * (row % 2)) * period + middle % period, top + row * period
                    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=second)
        if look.pattern == "block":
            line = self.at(0, 0.55 + 1.8 * look.period, 0)[1] - corner[1]
            draw.rectangle((0, line, width, tall), fill=second)
        if look.pattern == "chest_band":
            line = self.at(0, 0.75, 0)[1] - corner[1]
            draw.rectangle((0, line, width, line + 1.6 * period), fill=second)
        if look.pattern == "print":
            self.print_on(draw, corner, second)
        if look.pattern == "open" and self.cos > -0.2:
            center = middle + 0.06 * self.sin * height
            half = 0.045 * height * max(self.cos, 0.25)
            draw.polygon(
                [(center - half, 0), (center + half, 0), (center + 1.3 * half, tall), (center - 1.3 * half, tall)],
                fill=second,
            )

    def print_on(self, draw: ImageDraw.ImageDraw, corner: Point, color: Color) -> None:
        """A printed block on chest and back, narrow when seen from the side."""
        facing = 1 if self.cos >= 0 else -1
        x, y = self.at(0.0, 0.715, facing * 0.06)
        half = 0.062 * self.height * max(abs(self.cos), 0.3)
        x, y = x - corner[0], y - corner[1]
        tall = 0.062 * self.height
        if self.look.period > 0.055:
            draw.ellipse((x - half, y - tall, x + half, y + tall), fill=color)
        else:
            draw.rectangle((x - half, y - 0.8 * tall, x + half, y + 0.8 * tall), fill=color)

    # -- limbs ---------------------------------------------------------------------------------------------------

    def leg(self, side: int, swing: float) -> None:
        look, figure, size = self.look, self.figure, self.height
        girth = 0.5 + 0.5 * look.girth
        lateral, half = side * 0.052 * look.girth, 0.5 * (look.leg - 0.035)
        bend = self.pose.stride * max(0.0, math.sin(self.pose.phase * 1.0 + (0.9 if side < 0 else math.pi + 0.9)))
        knee_forward, knee_up = half * math.sin(swing), look.leg - half * math.cos(swing)
        shin = swing - 0.9 * bend
        ankle_forward, ankle_up = knee_forward + half * math.sin(shin), knee_up - half * math.cos(shin)
        hip, knee = self.at(lateral, look.leg, 0), self.at(lateral, knee_up, knee_forward)
        ankle = self.at(lateral, ankle_up, ankle_forward)
        heel = self.at(lateral, ankle_up - 0.018, ankle_forward - 0.012)
        toe = self.at(lateral * 1.25, ankle_up - 0.022, ankle_forward + 0.06)
        figure.limb(heel, toe, 0.023 * size, 0.021 * size, look.shoe, dark=170)
        bare = look.lower in ("shorts", "skirt")
        cloth = look.skin if bare else look.lower_color
        wide = 1.35 if look.lower == "wide" else 1.0
        figure.limb(
            knee,
            ankle,
            0.04 * girth * size * (0.85 if bare else wide),
            0.031 * girth * size * (0.8 if bare else wide * wide),
            cloth,
        )
        figure.limb(hip, knee, 0.056 * girth * size, 0.041 * girth * size * (0.9 if bare else wide), cloth)
        if look.lower == "shorts":
            end = tuple(a + 0.82 * (b - a) for a, b in zip(hip, knee, strict=True))
            figure.limb(hip, end, 0.06 * girth * size, 0.056 * girth * size, look.lower_color)
        elif look.lower in ("trousers", "wide") and look.side_stripe:
            for start, stop in ((hip, knee), (knee, ankle)):
                figure.line(start, stop, 0.022 * size, look.stripe_color)

    def arm(self, side: int, swing: float) -> None:
        look, figure, size = self.look, self.figure, self.height
        girth, arms = 0.5 + 0.5 * look.girth, self.pose.arms
        lateral = side * 0.122 * look.girth
        upper, lower, spread = 0.7 * swing, 0.7 * swing + 0.25, 0.02
        if arms == "pockets":
            upper, lower, spread = -0.35, 0.45, 0.05
        elif arms == "folded" or (arms == "phone" and side > 0):
            upper, lower, spread = 0.25, 1.9 if arms == "folded" else 2.5, 0.01
        shoulder = self.at(lateral, SHOULDER, 0.0)
        elbow_forward, elbow_up = 0.165 * math.sin(upper), SHOULDER - 0.165 * math.cos(upper)
        elbow = self.at(lateral + side * spread, elbow_up, elbow_forward)
        inward = -0.09 * side if arms == "folded" else 0.0
        hand_place = (
            lateral + side * spread + inward,
            elbow_up - 0.15 * math.cos(lower),
            elbow_forward + 0.15 * math.sin(lower),
        )
        hand = self.at(*hand_place)
        sleeve = look.sleeve_color
        figure.ellipse(hand, 0.021 * size, 0.025 * size, look.skin)
        figure.limb(
            elbow, hand, 0.027 * girth * size, 0.021 * girth * size, sleeve if look.sleeve == "long" else look.skin
        )
        figure.limb(
            shoulder, elbow, 0.038 * girth * size, 0.029 * girth * size, look.skin if look.sleeve == "none" else sleeve
        )
        if look.bag == "hand" and side < 0:
            self.hand_bag(hand)

    # -- head ----------------------------------------------------------------------------------------------------

    def head(self) -> None:
        look, figure = self.look, self.figure
        radius, tall = look.head * self.height, 1.22 * look.head * self.height
        x, y = self.at(0.0, 0.925, 0.012)
        crown = {"afro": 1.42, "bald": 1.0}.get(look.hair, 1.12)
        figure.ellipse((x, y - 0.06 * tall), radius * crown, tall * (1.0 + 0.7 * (crown - 1.0)), look.hair_color)
        if look.hair == "bun":
            bun = self.at(0.0, 0.985, -0.05)
            figure.ellipse(bun, 0.5 * radius, 0.5 * radius, look.hair_color)
        if look.hair == "bald":
            figure.ellipse((x, y), radius, tall, look.skin)
        elif self.cos > -0.55:  # seen from behind there is only hair
            share = min(1.0, 0.62 + 0.4 * max(0.0, self.cos))
            face = (x + 0.42 * radius * self.sin, y + 0.2 * tall)
            figure.ellipse(face, 0.92 * radius * share, 0.84 * tall, look.skin)
        if self.cos > 0.1:
            for side in (-1, 1):
                eye = (x + 0.42 * radius * self.sin + side * 0.36 * radius * self.cos, y + 0.1 * tall)
                figure.ellipse(eye, 0.09 * radius, 0.09 * radius, (40, 30, 30))
        self.hat(x, y, radius, tall)

    def hat(self, x: float, y: float, radius: float, tall: float) -> None:
        look, figure = self.look, self.figure
        if look.hat == "none":
            return
        if look.hat == "beanie":
            figure.half_ellipse((x, y - 0.02 * tall), 1.2 * radius, 1.2 * tall, look.hat_color)
            figure.limb(
                (x - 1.1 * radius, y - 0.08 * tall),
                (x + 1.1 * radius, y - 0.08 * tall),
                0.16 * tall,
                0.16 * tall,
                scaled(look.hat_color, 0.8),
            )
        elif look.hat == "cap":
            figure.half_ellipse((x, y - 0.22 * tall), 1.16 * radius, 0.92 * tall, look.hat_color)
            if self.cos > -0.6:
                brim = (x + 0.95 * radius * self.sin, y - 0.2 * tall + 0.12 * tall * self.cos)
                figure.ellipse(brim, radius * (0.85 - 0.1 * abs(self.sin)), 0.15 * tall, scaled(look.hat_color, 0.75))
        else:
            figure.ellipse((x, y - 0.3 * tall), 1.95 * radius, 0.3 * tall, look.hat_color)
            figure.half_ellipse((x, y - 0.32 * tall), 1.1 * radius, 0.85 * tall, look.hat_color)

    def hanging_hair(self) -> None:
        radius, wide = self.look.head, self.look.hair == "long"
        back = -0.6 * radius
        end = 0.775 if wide else 0.80
        top, bottom = self.at(0.0, 0.93, back), self.at(0.0, end, 1.5 * back)
        thick = (1.02 if wide else 0.42) * radius * self.height
        self.figure.limb(top, bottom, thick, 0.85 * thick, self.look.hair_color)

    # -- what is carried -----------------------------------------------------------------------------------------

    def backpack(self) -> None:
        """A box on the back: at full width from behind, a bulge from the side, hidden from the front."""
        color, figure = self.look.bag_color, self.figure
        half = max(self.half_width(0.098 * self.look.girth, 0.055), 0.055 * self.height)
        top, bottom = self.at(0.0, 0.825, -0.125), self.at(0.0, 0.565, -0.13)
        cut = 0.3 * half
        outline = [
            (top[0] - half + cut, top[1]),
            (top[0] + half - cut, top[1]),
            (top[0] + half, top[1] + cut),
            (bottom[0] + half, bottom[1]),
            (bottom[0] - half, bottom[1]),
            (top[0] - half, top[1] + cut),
        ]
        figure.round_polygon(outline, color)
        line = top[1] + 0.55 * (bottom[1] - top[1])
        pocket = [
            (bottom[0] - 0.66 * half, line),
            (bottom[0] + 0.66 * half, line),
            (bottom[0] + 0.66 * half, bottom[1] - 0.15 * half),
            (bottom[0] - 0.66 * half, bottom[1] - 0.15 * half),
        ]
        figure.mark(pocket, scaled(color, 0.72))

    def pouch(self) -> None:
        """A bag at the right hip, on a strap that the trunk has drawn."""
        center = self.at(-0.135 * self.look.girth, 0.485, 0.0)
        self.box(center, max(self.half_width(0.035, 0.075), 0.04 * self.height), 0.06 * self.height)

    def hand_bag(self, hand: Point) -> None:
        self.figure.line(
            hand, (hand[0], hand[1] + 0.05 * self.height), 0.05 * self.height, scaled(self.look.bag_color, 0.7)
        )
        center = (hand[0], hand[1] + 0.1 * self.height)
        self.box(center, max(self.half_width(0.03, 0.085), 0.042 * self.height), 0.062 * self.height)

    def suitcase(self) -> None:
        center = self.at(-0.2, 0.13, -0.14)
        handle = self.at(-0.17, 0.42, -0.06)
        self.figure.line(handle, center, 0.014 * self.height, (70, 70, 74))
        self.box(center, max(self.half_width(0.075, 0.05), 0.055 * self.height), 0.11 * self.height)

    def box(self, center: Point, half: float, tall: float) -> None:
        x, y = center
        points = [(x - 0.85 * half, y - tall), (x + 0.85 * half, y - tall), (x + half, y + tall), (x - half, y + tall)]
        self.figure.round_polygon(points, self.look.bag_color, dark=160)
        flap = [
            (x - 0.88 * half, y - tall),
            (x + 0.88 * half, y - tall),
            (x + 0.92 * half, y - 0.35 * tall),
            (x - 0.92 * half, y - 0.35 * tall),
        ]
        self.figure.mark(flap, scaled(self.look.bag_color, 0.75))
