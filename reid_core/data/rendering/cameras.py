"""Cameras: what one of them always sees, from where, in which light, and what it does to colours."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from reid_core.data.rendering.randomness import Stream, generator
from reid_core.data.rendering.scenes import Scene, draw_scene

GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0  # its multiples spread evenly over [0, 1), whatever the number of cameras


@dataclass(frozen=True)
class Camera:
    """gains: what each colour channel is multiplied by. exposure, gamma, contrast, saturation: 1 changes nothing.
    haze: share of a grey veil. light: side from which the light falls, in [-1, 1]. tilt: how far the camera looks
    down. yaw: the side that most objects show it, in radians; 0 is the front. scale: mean size of objects.
    """

    gains: tuple[float, float, float]
    exposure: float
    gamma: float
    contrast: float
    saturation: float
    haze: float
    light: float
    tilt: float
    yaw: float
    scale: float


@lru_cache(maxsize=256)
def find_camera(seed: int, number: int, difficulty: float) -> Camera:
    """The camera of that number; casts are spread over the colour circle, and grow with the difficulty."""
    rng = generator(seed, Stream.CAMERA, number)
    turn = 2.0 * math.pi * (generator(seed, Stream.CAMERA).random() + number * GOLDEN)
    strength = (0.75 + 0.5 * rng.random()) * 0.62 * difficulty
    gains = tuple(math.exp(strength * math.cos(turn - channel * 2.0 * math.pi / 3.0)) for channel in range(3))
    spread = (number * GOLDEN * 3.0 + rng.random() * 0.3) % 1.0  # dark and bright cameras alternate
    return Camera(
        gains=gains,
        exposure=math.exp((spread - 0.55) * 1.1 * difficulty),
        gamma=math.exp(rng.uniform(-0.55, 0.55) * difficulty),
        contrast=1.0 - 0.5 * difficulty * rng.random(),
        saturation=1.0 - 0.7 * difficulty * rng.random(),
        haze=0.3 * difficulty * rng.random(),
        light=float(rng.uniform(-0.9, 0.9)),
        tilt=float(rng.uniform(0.05, 0.28)),
        yaw=2.0 * math.pi * ((number * GOLDEN + rng.random() * 0.1) % 1.0),
        scale=float(1.0 + rng.uniform(-0.5, 0.5) * 0.16 * (0.4 + difficulty)),
    )


@lru_cache(maxsize=32)
def find_scene(seed: int, number: int, kind: str, width: int, height: int) -> Scene:
    """The camera's background for pictures of that size; drawn once in each process."""
    # A stream of its own, so that the camera stays the same whatever the scene consumes.
    rng = generator(seed, Stream.SCENE, number, 0 if kind == "person" else 1)
    return draw_scene(rng, kind, (width, height), number)


def draw_yaw(rng: np.random.Generator, camera: Camera, difficulty: float) -> float:
    """The side that an object shows the camera, in radians in [0, 2 pi): mostly the camera's usual one, some any."""
    if rng.random() < 0.25 + 0.4 * difficulty:
        yaw = rng.uniform(0.0, 2.0 * math.pi)
    else:
        yaw = camera.yaw + rng.normal(0.0, 0.35)
    return float(yaw % (2.0 * math.pi))
