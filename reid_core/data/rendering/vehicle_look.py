"""What stays the same about a vehicle in every image: shape, paint, decoration and fittings."""

from dataclasses import dataclass

import numpy as np

from reid_core.data.rendering.colors import PAINT, Color, Wardrobe, mix
from reid_core.data.rendering.randomness import pick

BODIES = ("sedan", "hatchback", "suv", "van", "bus", "truck", "pickup")
BODY_WEIGHTS = (4, 3, 3, 2.2, 1.2, 1.8, 1.5)
DECORATIONS = ("none", "side_stripe", "racing_stripes", "two_tone", "door_panel", "dots", "hoops")
DECORATION_WEIGHTS = (4, 2, 1.6, 2, 1.8, 1.2, 1)


@dataclass(frozen=True)
class VehicleLook:
    """body: one of BODIES. paint, second: colours of bodywork and decoration. cargo: of a truck's box.
    decoration: one of DECORATIONS. roof: its colour. top: "none", "rack", "box", "sign" or "beacon".
    wheel: "spokes", "disc" or "dark". glass: its tint. plate: its colour. bumper: "painted" or "black".
    lamp: height of the lamps as a share of the front. stretch: length against the body's usual one.
    spare: whether a spare wheel hangs at the rear. badge: (position, width) of a mark at front and rear.
    """

    body: str
    paint: Color
    second: Color
    cargo: Color
    decoration: str
    roof: Color
    top: str
    top_color: Color
    wheel: str
    glass: Color
    plate: Color
    bumper: str
    lamp: float
    stretch: float
    spare: bool
    badge: tuple[float, float]


def draw_vehicle_look(rng: np.random.Generator, difficulty: float) -> VehicleLook:
    """One vehicle; rising difficulty makes paints duller and decorations rarer, so that vehicles look more alike."""
    wardrobe = Wardrobe(rng, PAINT, difficulty)
    plainness = 0.6 * difficulty
    paint = wardrobe.draw()
    second = wardrobe.draw(unlike=paint)
    weights = (DECORATION_WEIGHTS[0] * (0.4 + plainness), *DECORATION_WEIGHTS[1:])
    body = pick(rng, BODIES, BODY_WEIGHTS)
    return VehicleLook(
        body=body,
        paint=paint,
        second=second,
        cargo=wardrobe.draw(unlike=paint),
        decoration=pick(rng, DECORATIONS, weights),
        roof=second if rng.random() < 0.25 else paint,
        top=pick(rng, ("none", "rack", "box", "sign", "beacon"), (2 + 3 * plainness, 1.6, 1, 1, 0.8)),
        top_color=wardrobe.draw(unlike=paint),
        wheel=pick(rng, ("spokes", "disc", "dark")),
        glass=mix((36, 44, 54), (132, 156, 172), float(rng.random())),
        plate=pick(rng, ((238, 238, 232), (232, 196, 60), (48, 84, 168), (60, 150, 84))),
        bumper=pick(rng, ("painted", "black"), (3, 1)),
        lamp=float(rng.uniform(0.35, 0.7)),
        stretch=float(rng.uniform(0.92, 1.1)),
        spare=body == "suv" and bool(rng.random() < 0.5),
        badge=(float(rng.uniform(-0.4, 0.4)), float(rng.uniform(0.12, 0.3))),
    )
