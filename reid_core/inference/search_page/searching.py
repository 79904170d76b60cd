"""Searching the gallery with several models, from many requests, one computation at a time."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reid_core.inference.loading import load
from reid_core.inference.model import ReIDModel
from reid_core.inference.search_page.collection import Collection
from reid_core.inference.search_page.errors import RefusedRequestError
from reid_core.inference.search_page.gallery_features import (
    SideInformation,
    encode_records,
    gallery_index,
    side_information,
)
from reid_core.inference.search_page.pictures import as_jpeg, attention_picture, shows_attention, small_image
from reid_core.inference.search_page.uploads import UploadLimits, decode_upload
from reid_core.retrieval import GalleryIndex
from reid_core.retrieval.gallery import UNKNOWN_CAMERA
from reid_core.structures import ReIDImage

MAX_RESULTS = 100
_REMEMBERED = 256  # queries' features and attention pictures: about 50 KB each at most


class Query(NamedTuple):
    """What is searched with: image `number` of `source` ("query" or "gallery"), or an uploaded file ("upload")."""

    source: str
    number: int = -1
    content: bytes = b""


class Filter(NamedTuple):
    """Which gallery images may be found. camera: only this one's; None: all. own_camera: also those of the query's."""

    camera: int | None = None
    own_camera: bool = True


class Hit(NamedTuple):
    """One answer. rank: from 1, None for an image that the protocol ignores. score: cosine. verdict: "match", "other",
    "ignored" (the query's identity by the query's camera) or "unknown"."""

    number: int
    rank: int | None
    score: float
    camera: str | None
    identity: str | None
    verdict: str


@dataclass(frozen=True)
class Answer:
    """hits: nearest first, equal scores by number. candidates: gallery images that passed the filter."""

    hits: list[Hit]
    candidates: int


def load_models(sources: Sequence[str], load_one: Callable[[str], ReIDModel] = load) -> dict[str, ReIDModel]:
    """The models by the name that the page shows: the last two parts of the path, the whole where that is not enough.

    Raises ValueError for a source that is named twice, and as `load`.
    """
    if not sources or len(set(sources)) < len(sources):
        raise ValueError(f"Name one or more models, each once; got {', '.join(sources) or 'none'}.")
    short = ["/".join(Path(source).parts[-2:]) for source in sources]
    names = sources if len(set(short)) < len(short) else short
    return {name: load_one(source) for name, source in zip(names, sources, strict=True)}


class Searcher:
    """Models with their indices over one gallery. Safe for many threads; one of them computes, the others wait."""

    def __init__(
        self,
        models: Mapping[str, ReIDModel],
        collection: Collection,
        folder: str | Path,
        limits: UploadLimits | None = None,
    ):
        """folder: where features are kept, see `gallery_index`, whose errors this raises. limits: of uploads."""
        self.collection, self.limits = collection, limits or UploadLimits()
        self.names, self._models = list(models), list(models.values())
        self._indices: list[GalleryIndex] = [gallery_index(model, collection, folder) for model in self._models]
        self.attentive = [shows_attention(model) for model in self._models]
        self._lock = threading.Lock()
        self._remembered: OrderedDict[tuple, np.ndarray | bytes] = OrderedDict()

    def record(self, query: Query) -> ReIDImage:
        """The record of a query; of an upload nothing is known. Raises RefusedRequestError for a number too large."""
        if query.source == "upload":
            return ReIDImage("", -1, UNKNOWN_CAMERA)
        table = self.collection.table(query.source)
        if not 0 <= query.number < len(table):
            raise RefusedRequestError(404, f"There is no {query.source} image {query.number}; there are {len(table)}.")
        return table[query.number]

    def search(self, model: int, query: Query, count: int, chosen: Filter) -> Answer:
        """The nearest gallery images; one that is itself the query is left out.

        count: 1 to MAX_RESULTS. Raises RefusedRequestError for what is not there and for uploads that are refused.
        """
        self._check_model(model)
        record, own = self.record(query), query.number if query.source == "gallery" else None
        if not 1 <= count <= MAX_RESULTS:
            raise RefusedRequestError(400, f"1 to {MAX_RESULTS} results can be shown, not {count}.")
        if chosen.camera is not None and chosen.camera not in self.collection.gallery_cameras():
            raise RefusedRequestError(404, "The gallery has no images of this camera.")
        hidden = UNKNOWN_CAMERA if chosen.own_camera else record.camid
        only = None if chosen.camera is None else [chosen.camera]
        with self._lock:
            features = self._remember((model, "features", *_key(query)), lambda: self._encode(model, query))
            found = self._indices[model].search(features, count + (own is not None), camids=[hidden], only_camids=only)
        pairs = [
            (int(number), 1 - float(distance))
            for number, distance in zip(found.ids[0], found.distances[0], strict=True)
            if number >= 0 and number != own
        ]
        return Answer(self._hits(record, pairs[:count]), self._candidates(hidden, chosen, own))

    def attention(self, model: int, query: Query) -> bytes:
        """A PNG of where the model looks in an image. Raises RefusedRequestError if it cannot tell."""
        self._check_model(model)
        self.record(query)
        refused = RefusedRequestError(404, f"The model {self.names[model]} has no attention that can be shown.")
        if not self.attentive[model]:
            raise refused
        try:
            with self._lock:
                return self._remember((model, "attention", *_key(query)), lambda: self._attention(model, query))
        except ValueError as error:
            raise refused from error

    def picture(self, source: str, number: int) -> bytes:
        """A JPEG of an image, small. Raises RefusedRequestError for one that is not there any more."""
        record = self.record(Query(source, number))
        try:
            return as_jpeg(small_image(record.path))
        except OSError as error:
            raise _unreadable(source, number) from error

    def _encode(self, model: int, query: Query) -> np.ndarray:
        """Features [1, D]."""
        trained = self._models[model]
        if query.source == "upload":
            image = decode_upload(query.content, self.limits)
            return trained.encode(image, *_unknown(trained), flip=trained.cfg.TEST.FLIP, num_workers=0)
        table = self.collection.table(query.source)
        try:
            return encode_records(trained, self.collection, table[query.number : query.number + 1], num_workers=0)
        except OSError as error:
            raise _unreadable(query.source, query.number) from error

    def _attention(self, model: int, query: Query) -> bytes:
        trained = self._models[model]
        if query.source == "upload":
            return attention_picture(trained, decode_upload(query.content, self.limits), _unknown(trained))
        table = self.collection.table(query.source)[query.number : query.number + 1]
        try:
            return attention_picture(trained, table.paths[0], side_information(trained, self.collection, table))
        except OSError as error:
            raise _unreadable(query.source, query.number) from error

    def _hits(self, query: ReIDImage, pairs: list[tuple[int, float]]) -> list[Hit]:
        hits, rank = [], 0
        for number, score in pairs:
            record = self.collection.gallery[number]
            verdict = _verdict(query, record)
            rank += verdict != "ignored"
            camera, identity = self.collection.camera(record.camid), self.collection.identity(record)
            hits.append(Hit(number, None if verdict == "ignored" else rank, score, camera, identity, verdict))
        return hits

    def _candidates(self, hidden: int, chosen: Filter, own: int | None) -> int:
        camids = self.collection.gallery.camids
        passing = np.ones(len(camids), dtype=bool) if chosen.camera is None else camids == chosen.camera
        if hidden != UNKNOWN_CAMERA:
            passing &= camids != hidden
        return int(passing.sum()) - (own is not None and bool(passing[own]))

    def _check_model(self, model: int) -> None:
        if not 0 <= model < len(self._models):
            raise RefusedRequestError(404, f"There is no model {model}; there are {len(self._models)}.")

    def _remember(self, key: tuple, compute: Callable[[], np.ndarray | bytes]) -> np.ndarray | bytes:
        """`compute()`, or what it gave for this key before; the lock is held."""
        if key not in self._remembered:
            self._remembered[key] = compute()
        self._remembered.move_to_end(key)
        while len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        return self._remembered[key]


def _verdict(query: ReIDImage, found: ReIDImage) -> str:
    if query.pid < 0 or found.pid < 0:
        return "unknown"
    if query.pid != found.pid:
        return "other"
    return "ignored" if query.camid == found.camid != UNKNOWN_CAMERA else "match"


def _key(query: Query) -> tuple:
    """An upload is known again by its hash; its bytes are not kept."""
    return query.source, query.number, hashlib.sha256(query.content).digest()


def _unknown(model: ReIDModel) -> SideInformation:
    """An upload's camera and viewpoint for a model that has embeddings for them: unknown."""
    return SideInformation(*([-1] if known else None for known in model.model.side_information))


def _unreadable(source: str, number: int) -> RefusedRequestError:
    return RefusedRequestError(
        410, f"The {source} image {number} cannot be read any more: was it moved or changed since the page was started?"
    )
