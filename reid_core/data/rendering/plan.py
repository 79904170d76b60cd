"""The list of images to draw: who is seen by which camera, under which number, as which image of the split."""

from dataclasses import dataclass, replace

import numpy as np

from reid_core.data.rendering.layouts import Layout, Shot, find_layout
from reid_core.data.rendering.options import RenderingOptions
from reid_core.data.rendering.randomness import Stream, generator

UNSEEN_CAMERA_OFFSET = 1000  # unseen test cameras are drawn from other random streams than any training camera


@dataclass(frozen=True)
class Job:
    """One image to draw.

    shot: its place in the dataset. identity: the appearance's number, unique over the whole rendering (numbers in
    file names are not: some benchmarks count training and test identities separately). scene: the camera's number
    for drawing. index: counts the images of this identity and camera. flaw: "" or "misaligned", a bad detection.
    """

    shot: Shot
    identity: int
    scene: int
    index: int
    flaw: str = ""


def plan_jobs(options: RenderingOptions) -> list[Job]:
    """All images of the rendering, in an order that depends on the options alone."""
    layout = find_layout(options.layout)
    train_numbers, test_numbers = _numbers(options, layout)
    offset = UNSEEN_CAMERA_OFFSET if options.test_cameras == "unseen" else 0
    jobs = []
    for position, number in enumerate(train_numbers):
        jobs += _identity_jobs(options, identity=position, number=number, offset=0, testing=False)
    for position, number in enumerate(test_numbers):
        identity = options.train_identities + position
        jobs += _identity_jobs(options, identity=identity, number=number, offset=offset, testing=True)
    jobs += _distractor_jobs(options, layout, offset)
    return [replace(job, shot=replace(job.shot, serial=serial)) for serial, job in enumerate(jobs)]


def _numbers(options: RenderingOptions, layout: Layout) -> tuple[list[int], list[int]]:
    """The numbers that training and test identities carry in file names."""
    if layout.separate_numbers:
        return list(range(options.train_identities)), list(range(options.test_identities))
    total = options.train_identities + options.test_identities
    shuffled = generator(options.seed, Stream.NUMBERS).permutation(total) + 1
    train = sorted(shuffled[: options.train_identities].tolist())
    return train, sorted(shuffled[options.train_identities :].tolist())


def _identity_jobs(options: RenderingOptions, identity: int, number: int, offset: int, testing: bool) -> list[Job]:
    rng = generator(options.seed, Stream.SCHEDULE, identity)
    cameras = np.sort(rng.permutation(options.cameras)[: options.cameras_per_identity])
    jobs = []
    for camera in cameras.tolist():
        frame = int(rng.integers(1000, 90000))
        for index in range(options.images_per_camera):
            split = ("query" if index == 0 else "gallery") if testing else "train"
            place = (split, number, camera, offset, index, frame + 25 * index, len(jobs))
            jobs.append(_job(*place, identity))
    return jobs


def _distractor_jobs(options: RenderingOptions, layout: Layout, offset: int) -> list[Job]:
    """Gallery images that no query asks for, and junk where the layout has a mark for it."""
    known = options.train_identities + options.test_identities
    highest = options.test_identities - 1 if layout.separate_numbers else known
    junk = (options.distractors + 1) // 2 if layout.junk_number is not None else 0
    jobs = []
    for position in range(options.distractors + junk):
        rng = generator(options.seed, Stream.SCHEDULE, known + position)
        camera, frame = int(rng.integers(options.cameras)), 1000 + 7 * position  # one number: frames tell them apart
        if position >= options.distractors:
            number, flaw = layout.junk_number, "misaligned"
        elif layout.distractor_number is not None:
            number, flaw = layout.distractor_number, "misaligned" if position % 2 else ""
        else:  # passers-by with numbers of their own, as DukeMTMC-reID has them
            number, flaw = highest + 1 + position, ""
        place = ("gallery", number, camera, offset, 0, frame, position)
        jobs.append(_job(*place, known + position, flaw))
    return jobs


def _job(
    split: str,
    number: int,
    camera: int,
    offset: int,
    index: int,
    frame: int,
    order: int,
    identity: int,
    flaw: str = "",
) -> Job:
    """camera counts from 0 here, from 1 in names; offset: to the camera's number for drawing."""
    return Job(Shot(split, number, camera + 1, index, frame, order), identity, camera + offset, index, flaw)
