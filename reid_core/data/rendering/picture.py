"""One image: a person or a vehicle in front of a camera's scene, seen through that camera."""

import io
import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from reid_core.data.rendering.cameras import Camera, draw_yaw, find_camera, find_scene
from reid_core.data.rendering.colors import CLOTHES
from reid_core.data.rendering.figure import Figure
from reid_core.data.rendering.options import RenderingOptions
from reid_core.data.rendering.person import PersonPose, draw_person
from reid_core.data.rendering.person_look import PersonLook, draw_person_look
from reid_core.data.rendering.plan import Job
from reid_core.data.rendering.randomness import Stream, generator, pick
from reid_core.data.rendering.vehicle import VehiclePose, draw_vehicle
from reid_core.data.rendering.vehicle_look import VehicleLook, draw_vehicle_look

OVERSAMPLING = 2  # drawn this much larger and averaged down: smooth edges


def draw_picture(options: RenderingOptions, job: Job) -> Image.Image:
    """The RGB picture of one job, of the options' size; depends on nothing but the two arguments."""
    rng = generator(options.seed, Stream.IMAGE, job.identity, job.scene, job.index)
    camera = find_camera(options.seed, job.scene, options.difficulty)
    width, height = size = options.width * OVERSAMPLING, options.height * OVERSAMPLING
    scene = find_scene(options.seed, job.scene, options.kind, width, height)
    picture = scene.view(size, rng.random(), rng.random(), rng.random()).convert("RGB")
    figure = Figure(size, camera.light)
    look = find_look(options.seed, job.identity, options.kind, options.difficulty)
    yaw = draw_view(options, job)
    if options.kind == "vehicle":
        _draw_vehicle(figure, rng, camera, look, yaw, job.flaw)
    else:
        _draw_person(figure, rng, camera, look, yaw, job.flaw, options.difficulty)
    figure.paste(picture, softness=height / 128)
    _occlude(picture, rng, options.difficulty)
    return _see_through(camera, picture.reduce(OVERSAMPLING), rng, options.difficulty)


def draw_view(options: RenderingOptions, job: Job) -> float:
    """The side that the object shows in this image, in radians in [0, 2 pi)."""
    rng = generator(options.seed, Stream.VIEW, job.identity, job.scene, job.index)
    return draw_yaw(rng, find_camera(options.seed, job.scene, options.difficulty), options.difficulty)


def encode_picture(options: RenderingOptions, job: Job) -> bytes:
    """The picture as JPEG; quality varies from image to image, and falls with the difficulty."""
    rng = generator(options.seed, Stream.IMAGE, job.identity, job.scene, job.index, 1)
    quality = round(rng.uniform(92 - 40 * options.difficulty, 95))
    buffer = io.BytesIO()
    draw_picture(options, job).save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


@lru_cache(maxsize=64)
def find_look(seed: int, identity: int, kind: str, difficulty: float) -> PersonLook | VehicleLook:
    """What stays the same about an identity in every image."""
    rng = generator(seed, Stream.LOOK, identity)
    return draw_vehicle_look(rng, difficulty) if kind == "vehicle" else draw_person_look(rng, difficulty)


def _draw_person(
    figure: Figure,
    rng: np.random.Generator,
    camera: Camera,
    look: PersonLook,
    yaw: float,
    flaw: str,
    difficulty: float,
) -> None:
    width, height = figure.size
    tall = height * (0.86 + 0.03 * rng.normal()) * camera.scale**0.5
    across, down = 0.03 + 0.06 * difficulty, 0.015 + 0.02 * difficulty
    feet = [width * (0.5 + across * rng.normal()), height * (0.955 + down * rng.normal())]
    if flaw:  # a bad detection: half of the body lies outside the box
        feet[0] += pick(rng, (-0.55, 0.55)) * width
        feet[1] += rng.uniform(-0.5, 0.5) * height
    pose = PersonPose(
        yaw=yaw,
        phase=float(rng.uniform(0.0, 2.0 * math.pi)),
        stride=float(rng.uniform(0.2, 0.55)) if rng.random() < 0.7 else 0.0,
        arms=pick(rng, ("swing", "pockets", "phone", "folded"), (6, 2, 1, 1)),
        lean=float(rng.normal(0.0, 0.01 + 0.02 * difficulty)),
        tilt=camera.tilt,
    )
    draw_person(figure, look, pose, (feet[0], feet[1]), tall)


def _draw_vehicle(
    figure: Figure, rng: np.random.Generator, camera: Camera, look: VehicleLook, yaw: float, flaw: str
) -> None:
    width, height = figure.size
    left, top, right, bottom = (rng.uniform(0.02, 0.1) for _ in range(4))
    box = [left * width, top * height, (1 - right) * width, (1 - bottom) * height]
    if flaw:
        shift = pick(rng, (-0.5, 0.5)) * width
        box[0], box[2] = box[0] + shift, box[2] + shift
    draw_vehicle(figure, look, VehiclePose(yaw, 0.15 + camera.tilt), tuple(box))


def _occlude(picture: Image.Image, rng: np.random.Generator, difficulty: float) -> None:
    """A post, a box or a passer-by in front; more often and larger as the difficulty rises."""
    if rng.random() > 0.5 * difficulty:
        return
    width, height = picture.size
    kind, color = pick(rng, ("post", "box", "person")), pick(rng, tuple(CLOTHES.values()))
    draw = ImageDraw.Draw(picture)
    if kind == "post":
        thick = width * rng.uniform(0.05, 0.08 + 0.1 * difficulty)
        x = rng.uniform(0, width - thick)
        draw.rectangle((x, 0, x + thick, height), fill=(74, 78, 82))
        draw.rectangle((x, 0, x + 0.3 * thick, height), fill=(104, 108, 112))
    elif kind == "box":
        wide, tall = (
            width * rng.uniform(0.2, 0.3 + 0.3 * difficulty),
            height * rng.uniform(0.1, 0.12 + 0.25 * difficulty),
        )
        x = rng.uniform(-0.3 * wide, width - 0.7 * wide)
        draw.rectangle((x, height - tall, x + wide, height), fill=color, outline=(40, 40, 40), width=2)
        draw.line((x, height - 0.6 * tall, x + wide, height - 0.6 * tall), fill=(40, 40, 40), width=2)
    else:
        thick = width * rng.uniform(0.15, 0.2 + 0.15 * difficulty)
        x, head = pick(rng, (-0.4 * thick, width - 0.6 * thick)), height * rng.uniform(0.15, 0.4)
        legs = pick(rng, tuple(CLOTHES.values()))
        draw.rounded_rectangle((x, head, x + thick, 0.6 * height), thick * 0.3, fill=color)
        draw.rectangle((x + 0.1 * thick, 0.58 * height, x + 0.9 * thick, height), fill=legs)
        skull = 0.5 * thick
        draw.ellipse((x + 0.25 * thick, head - skull, x + 0.75 * thick, head + 0.1 * skull), fill=(150, 108, 80))


def _see_through(camera: Camera, picture: Image.Image, rng: np.random.Generator, difficulty: float) -> Image.Image:
    """What the camera makes of the light: saturation, cast, exposure, gamma, contrast, haze, blur and noise."""
    light = np.asarray(picture, dtype=np.float32) / 255.0
    grey = light.mean(axis=2, keepdims=True)
    light = grey + (light - grey) * camera.saturation
    flicker = math.exp(rng.normal(0.0, 0.08) * difficulty)
    light = np.clip(light * (np.array(camera.gains, dtype=np.float32) * camera.exposure * flicker), 0.0, 1.0)
    light = 0.5 + (light**camera.gamma - 0.5) * camera.contrast
    light = light * (1.0 - camera.haze) + 0.75 * camera.haze
    light += rng.normal(0.0, 0.004 + 0.02 * difficulty, light.shape).astype(np.float32)
    seen = Image.fromarray(np.rint(light.clip(0.0, 1.0) * 255.0).astype(np.uint8))
    radius = abs(rng.normal(0.0, 1.0)) * difficulty * picture.height / 128.0
    return seen.filter(ImageFilter.GaussianBlur(radius)) if radius > 0.2 else seen
