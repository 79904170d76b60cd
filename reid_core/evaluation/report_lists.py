"""The report's ranked lists: small pictures of a query and of what the gallery answered, as HTML."""

import base64
import io
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from PIL import Image

from reid_core.data.datasets.listing import printable
from reid_core.data.images import read_image
from reid_core.evaluation.results import EntryKind, RankedLists, RankingResults
from reid_core.structures import ReIDImage

_BOX = (78, 128)  # largest width and height of a picture on the page; the file holds up to twice as many pixels
_CLASSES = {EntryKind.MATCH: "match", EntryKind.WRONG: "wrong", EntryKind.IGNORED: "ignored"}
_VERDICTS = {EntryKind.MATCH: "✓ match", EntryKind.WRONG: "✗ other", EntryKind.IGNORED: "own cam"}
_SPOKEN = {EntryKind.MATCH: "a true match", EntryKind.WRONG: "another identity", EntryKind.IGNORED: "not ranked"}


def best_and_worst(results: RankingResults, query_pids: Sequence[int], count: int) -> tuple[list[int], list[int]]:
    """Positions of up to `count` queries of the highest and of the lowest average precision, best and worst first.

    No identity appears twice, so that one easy or broken identity does not fill a list; no query is in both. Of few
    identities half are for the worst.
    """
    precision = results.per_query.average_precision
    order = [int(position) for position in np.argsort(-precision, kind="stable") if precision[position] >= 0]
    count = min(count, -(-len({query_pids[position] for position in order}) // 2))
    seen: set[int] = set()

    def pick(candidates: Sequence[int], wanted: int) -> list[int]:
        chosen = []
        for position in candidates:
            if len(chosen) < wanted and query_pids[position] not in seen:
                seen.add(query_pids[position])
                chosen.append(position)
        return chosen

    best = pick(order, count)
    return best, pick(order[::-1], count)


class Entry(NamedTuple):
    """A gallery image of a ranked list: its place (None: not ranked), its position in the gallery, its distance."""

    rank: int | None
    position: int
    distance: float
    kind: EntryKind


def ranked_entries(lists: RankedLists, position: int) -> Iterator[Entry]:
    """The list of one query, nearest first; images that are not ranked take no place."""
    rank = 0
    columns = (lists.positions[position], lists.distances[position], lists.kinds[position])
    for index, distance, kind in zip(*columns, strict=True):
        kind = EntryKind(int(kind))
        rank += kind != EntryKind.IGNORED
        yield Entry(None if kind == EntryKind.IGNORED else rank, int(index), float(distance), kind)


def ranked_list(
    results: RankingResults,
    position: int,
    query: Sequence[ReIDImage],
    gallery: Sequence[ReIDImage],
    length: int,
    cameras: bool = True,
) -> str:
    """HTML of one query and its `length` nearest ranked gallery images; unranked ones between them stand in grey.

    cameras: False where the records' cameras say nothing about the picture, and are not shown.
    """
    found, record = results.per_query, query[position]
    first = int(found.first_match_rank[position])
    entries = _entries(results.ranked_lists, position, gallery, length, cameras)
    return (
        '<article class="ranked">'
        f'<div class="query">{_figure(record, "Query", "query", "query", cameras)}'
        f"<p><strong>AP {100 * found.average_precision[position]:.1f} %</strong><br>"
        f"first match: rank&nbsp;{first}</p></div>"
        f"<ol>{''.join(entries)}</ol></article>"
    )


def _entries(lists: RankedLists, position: int, gallery: Sequence[ReIDImage], length: int, cameras: bool) -> list[str]:
    entries = []
    for rank, index, distance, kind in ranked_entries(lists, position):
        if rank is not None and rank > length:
            break
        spoken = _SPOKEN[kind] if rank is None else f"rank {rank}, {_SPOKEN[kind]}"
        caption = f"<b>{rank or '&ndash;'}</b> {_VERDICTS[kind]}"
        picture = _figure(gallery[index], f"Gallery, {spoken}", caption, _CLASSES[kind], cameras, f"{distance:.3f}")
        entries.append(f"<li>{picture}</li>")
    return entries


def _figure(record: ReIDImage, spoken: str, caption: str, style: str, cameras: bool, distance: str = "") -> str:
    """caption: HTML. All that comes from the dataset is escaped."""
    width, height, data = _picture(record.path)
    words = f"{spoken}: identity {record.pid}" + (f", camera {record.camid + 1}" if cameras else "")
    below = f"id {record.pid}" + (f" · cam {record.camid + 1}" if cameras else "")
    below += f"<br>d = {distance}" if distance else ""
    return (
        f'<figure class="{style}"><img src="data:image/jpeg;base64,{data}" alt="{escape(words)}" '
        f'title="{escape(printable(record.path))}" width="{width}" height="{height}">'
        f"<figcaption>{caption}<br>{below}</figcaption></figure>"
    )


def _picture(path: str) -> tuple[int, int, str]:
    """Width and height on the page, and the picture as base64 JPEG. Raises OSError for what does not decode."""
    image = Image.fromarray(np.ascontiguousarray(read_image(path).permute(1, 2, 0).numpy()))
    scale = min(_BOX[0] / image.width, _BOX[1] / image.height)
    shown, stored = (
        (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        for factor in (scale, min(1, 2 * scale))
    )
    buffer = io.BytesIO()
    image.resize(stored, Image.Resampling.LANCZOS).save(buffer, format="JPEG", quality=82)
    return *shown, base64.b64encode(buffer.getvalue()).decode("ascii")
