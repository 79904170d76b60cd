"""An evaluation in pictures: PNG files, and the report that holds them all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from reid_core.data.image_table import ImageTable
from reid_core.evaluation.camera_figure import camera_figure
from reid_core.evaluation.embedding_figure import MAX_IDENTITIES, embedding_figure, tsne_places
from reid_core.evaluation.labelled import JUNK
from reid_core.evaluation.plot_style import as_png
from reid_core.evaluation.ranked_figure import ranked_figure
from reid_core.evaluation.report import write_report
from reid_core.evaluation.report_figures import draw_distances, spoken_name
from reid_core.evaluation.report_lists import best_and_worst
from reid_core.evaluation.report_pictures import Picture
from reid_core.evaluation.results import RankingResults
from reid_core.evaluation.separation import sample_distances
from reid_core.utils.file_io import write_atomically
from reid_core.utils.logging import get_logger

PICTURES = (
    "ranked_best.png",
    "ranked_worst.png",
    "distances.png",
    "embedding_identity.png",
    "embedding_camera.png",
    "attention.png",
    "cameras.png",
)
"""All that a report may have beside it; what cannot be drawn is left out, and said."""
ROOM_FOR_IGNORED = 30
"""Entries of ranked lists beyond their length: room for images of the query's own camera, which are not ranked."""


@dataclass(frozen=True)
class ReportOptions:
    """queries: shown of the best, and of the worst. length: gallery images of each. identities: drawn by t-SNE, with
    up to `images` images of each. seed: of all that is drawn at random. Raises ValueError for what is out of range."""

    queries: int = 5
    length: int = 10
    identities: int = 30
    images: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name, most in (("queries", 50), ("length", 50), ("identities", MAX_IDENTITIES), ("images", 100)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"The number of {name} must be from 1 to {most}, got {getattr(self, name)}.")


@dataclass(frozen=True)
class Evaluation:
    """What was evaluated, and how it ended.

    name: the test set's. query, gallery: its records, query_features [Q, D] and gallery_features [G, D] float theirs.
    results: with per-query results and ranked lists (`ReIDEvaluator.rank(top_k=...)`), with camera pairs or without.
    metric, normalize, camera_rule: as it was ranked. names_cameras: False where the records' cameras say nothing about
    the picture. has_pictures: False where no image files are there.
    """

    name: str
    query: ImageTable
    gallery: ImageTable
    query_features: np.ndarray | Tensor
    gallery_features: np.ndarray | Tensor
    results: RankingResults
    metric: str
    normalize: bool
    camera_rule: bool = True
    names_cameras: bool = True
    has_pictures: bool = True

    def best_and_worst(self, count: int) -> tuple[list[int], list[int]]:
        """Positions of the best queries and of the worst ones."""
        return best_and_worst(self.results, self.query.pids.tolist(), count)


class Attention(NamedTuple):
    """PNGs: all queries that are shown, and parts of it for the page, by caption."""

    whole: bytes
    parts: Mapping[str, bytes]


@dataclass
class _Drawn:
    """PNGs by file name, and the reasons why others are not among them."""

    files: dict[str, bytes] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def write_visual_report(
    folder: Path,
    title: str,
    evaluation: Evaluation,
    rows: Mapping[str, Mapping[str, Any]],
    history: Sequence[Mapping[str, Any]] = (),
    settings: Mapping[str, Any] | None = None,
    attention: Attention | str = "The features were made elsewhere: there is no model to ask.",
    options: ReportOptions | None = None,
) -> Path:
    """Write report.html and PICTURES to `folder`; returns the report's path. The same arguments give the same bytes.

    rows, history, settings: as for `write_report`. attention: pictures, or the reason why there are none. An earlier
    report's pictures that cannot be drawn now are removed; the reason is in the log and among the report's settings.
    Raises OSError for an image that cannot be read.
    """
    options = options or ReportOptions()
    drawn = _Drawn()
    _draw_lists(drawn, evaluation, options)
    distances = _draw_distances(drawn, evaluation, options.seed)
    _draw_embedding(drawn, evaluation, options)
    if isinstance(attention, str):
        drawn.left_out["attention.png"] = attention
    else:
        drawn.files["attention.png"] = attention.whole
    sections = {
        "Embedding": _embedding_pictures(drawn.files),
        "Attention": [] if isinstance(attention, str) else _attention_pictures(attention),
        "Cameras": _draw_cameras(drawn, evaluation),
    }
    folder = Path(folder)
    for name in PICTURES:
        if name in drawn.files:
            write_atomically(folder / name, drawn.files[name])
        else:
            (folder / name).unlink(missing_ok=True)
            get_logger().warning("%s: no %s. %s", evaluation.name, name, drawn.left_out[name])
    write_report(
        folder / "report.html",
        title,
        rows,
        history,
        evaluation.results,
        evaluation.query,
        evaluation.gallery,
        distances,
        {**(settings or {}), **{f"no {name}": reason for name, reason in drawn.left_out.items()}},
        metric=evaluation.metric,
        lists=options.queries if evaluation.has_pictures else 0,
        list_length=options.length,
        pictures=sections,
        camera_rule=evaluation.camera_rule,
        cameras=evaluation.names_cameras,
    )
    return folder / "report.html"


def _draw_lists(drawn: _Drawn, evaluation: Evaluation, options: ReportOptions) -> None:
    best, worst = evaluation.best_and_worst(options.queries)
    titles = {
        "best": "Best queries: highest average precision, one of each identity",
        "worst": "Worst queries: lowest average precision, one of each identity",
    }
    for which, positions in (("best", best), ("worst", worst)):
        name = f"ranked_{which}.png"
        if not evaluation.has_pictures:
            drawn.left_out[name] = "There are no paths of images."
        elif not positions:
            drawn.left_out[name] = "There is one identity only."
        else:
            sides = evaluation.query, evaluation.gallery
            drawn.files[name] = ranked_figure(
                evaluation.results, positions, *sides, titles[which], options.length, evaluation.names_cameras
            )


def _draw_distances(drawn: _Drawn, evaluation: Evaluation, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The distances drawn."""
    sides = evaluation.query, evaluation.gallery
    same, different = sample_distances(
        evaluation.query_features,
        evaluation.gallery_features,
        *(side.pids for side in sides),
        *(side.camids for side in sides),
        metric=evaluation.metric,
        normalize=evaluation.normalize,
        camera_rule=evaluation.camera_rule,
        seed=seed,
    )
    figure = draw_distances(same, different, evaluation.metric, evaluation.camera_rule)
    drawn.files["distances.png"] = as_png(figure)
    return same, different


def _draw_embedding(drawn: _Drawn, evaluation: Evaluation, options: ReportOptions) -> None:
    """One t-SNE, coloured by identity and by camera."""
    names = "embedding_identity.png", "embedding_camera.png"
    sides = evaluation.query, evaluation.gallery
    pids, camids = (np.concatenate([getattr(side, column) for side in sides]) for column in ("pids", "camids"))
    chosen = choose_images(pids, evaluation.query.pids, options)
    features = (evaluation.query_features, evaluation.gallery_features)
    features = torch.cat([torch.as_tensor(side).float().cpu() for side in features])[torch.from_numpy(chosen)]
    total = int((pids != JUNK).sum())
    note = f", drawn from {total:,} images" if len(chosen) < total else ""
    try:
        places = {evaluation.name: tsne_places(features, options.seed)}
    except ValueError as error:
        drawn.left_out |= dict.fromkeys(names, str(error))
        return
    cameras = {int(camera): f"camera {camera + 1}" for camera in np.unique(camids[chosen])}
    if not evaluation.names_cameras or len(cameras) < 2:
        drawn.left_out[names[1]] = _one_camera(evaluation)
    labels = {names[0]: (pids, "identities", None), names[1]: (camids, "cameras", cameras)}
    for name, (column, labels_are, legend) in labels.items():
        if name in drawn.left_out:
            continue
        panel = {evaluation.name: (features, torch.from_numpy(column[chosen]))}
        try:
            drawn.files[name] = embedding_figure(
                panel, "images", options.seed, labels_are=labels_are, legend=legend, note=note, places=places
            ).png
        except ValueError as error:
            drawn.left_out[name] = str(error)


def choose_images(pids: np.ndarray, query_pids: np.ndarray, options: ReportOptions) -> np.ndarray:
    """Positions, rising, of up to `options.images` images of each of `options.identities` identities, by the seed.

    pids: int64 [N], of query and gallery together. Identities are drawn among those of the queries (distractors are
    none), those with several images first.
    """
    generator = np.random.default_rng(options.seed)
    known, counts = np.unique(pids[np.isin(pids, query_pids) & (pids != JUNK)], return_counts=True)
    order = generator.permutation(len(known))
    order = order[np.argsort(counts[order] < 2, kind="stable")]
    chosen = []
    for pid in np.sort(known[order[: options.identities]]):
        chosen.append(generator.permutation(np.flatnonzero(pids == pid))[: options.images])
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=np.int64)


def _draw_cameras(drawn: _Drawn, evaluation: Evaluation) -> list[Picture]:
    """The maps one by one, for the page, where they stand below each other on a small screen."""
    pairs = evaluation.results.camera_pairs
    if pairs is None:
        drawn.left_out["cameras.png"] = _one_camera(evaluation)
        return []
    try:
        drawn.files["cameras.png"] = camera_figure(pairs)
    except ValueError as error:
        drawn.left_out["cameras.png"] = str(error)
        return []
    spoken = {metric: spoken_name(metric) for metric in ("mAP", "rank1")}
    return [
        Picture(f"{name} by pair of cameras", f"Heat map of {name} in percent", camera_figure(pairs, [metric]))
        for metric, name in spoken.items()
    ]


def _one_camera(evaluation: Evaluation) -> str:
    if not evaluation.names_cameras:
        return "It is not known which camera took an image."
    return "All images shown are of one camera."


def _embedding_pictures(files: Mapping[str, bytes]) -> list[Picture]:
    words = {
        "embedding_identity.png": ("By identity", "Images as points, close where their features are, by identity"),
        "embedding_camera.png": ("By camera", "The same points by camera: mixed where cameras do not matter"),
    }
    return [Picture(*words[name], files[name]) for name in words if name in files]


def _attention_pictures(attention: Attention) -> list[Picture]:
    description = "Query images, and maps over them of what makes their features"
    return [Picture(caption, f"{caption}. {description}", png) for caption, png in attention.parts.items()]
