"""The report's ranked lists: small pictures of a query and of what the gallery answered, as HTML."""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from reid_core.data.images import read_image
from reid_core.evaluation.results import EntryKind, RankedLists, RankingResults
from reid_core.structures import ReIDImage

_BOX = (78, 128)  # largest width and height of a picture on the page; the file holds up to twice as many pixels
_CLASSES = {EntryKind.MATCH: "match", EntryKind.WRONG: "wrong", EntryKind.IGNORED: "ignored"}
_VERDICTS = {EntryKind.MATCH: "✓ match", EntryKind.WRONG: "✗ other", EntryKind.IGNORED: "own camera"}
_SPOKEN = {EntryKind.MATCH: "a true match", EntryKind.WRONG: "another identity", EntryKind.IGNORED: "not ranked"}


def best_and_worst(results: RankingResults, query_pids: Sequence[int], count: int) -> tuple[list[int], list[int]]:
    """Positions of up to `count` queries of the highest and of the lowest average precision, best and worst first.

    No identity appears twice, so that one easy or broken identity does not fill a list; no query is in both.
    """
    precision = results.per_query.average_precision
    order = [int(position) for position in np.argsort(-precision, kind="stable") if precision[position] >= 0]
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


def ranked_list(
    results: RankingResults,
    position: int,
    query: Sequence[ReIDImage],
    gallery: Sequence[ReIDImage],
    length: int,
) -> str:
    """HTML of one query and its `length` nearest ranked gallery images; unranked ones between them stand in grey."""
    found, record = results.per_query, query[position]
    first = int(found.first_match_rank[position])
    entries = _entries(results.ranked_lists, position, gallery, length)
    return (
        '<article class="ranked">'
        f'<div class="query">{_figure(record, "Query", "query", "query")}'
        f"<p><strong>AP {100 * found.average_precision[position]:.1f} %</strong><br>"
        f"first match: rank&nbsp;{first}</p></div>"
        f"<ol>{''.join(entries)}</ol></article>"
    )


def _entries(lists: RankedLists, position: int, gallery: Sequence[ReIDImage], length: int) -> list[str]:
    entries, rank = [], 0
    for index, distance, kind in zip(
        lists.positions[position], lists.distances[position], lists.kinds[position], strict=True
    ):
        kind = EntryKind(int(kind))
        rank += kind != EntryKind.IGNORED
        if rank > length:
            break
        place = "&ndash;" if kind == EntryKind.IGNORED else str(rank)
        spoken = _SPOKEN[kind] if kind == EntryKind.IGNORED else f"rank {rank}, {_SPOKEN[kind]}"
        caption = f"<b>{place}</b> {_VERDICTS[kind]}"
        picture = _figure(gallery[int(index)], f"Gallery, {spoken}", caption, _CLASSES[kind], f"{distance:.3f}")
        entries.append(f"<li>{picture}</li>")
    return entries


def _figure(record: ReIDImage, spoken: str, caption: str, style: str, distance: str = "") -> str:
    """caption: HTML. All that comes from the dataset is escaped."""
    width, height, data = _picture(record.path)
    words = escape(f"{spoken}: identity {record.pid}, camera {record.camid + 1}")
    below = f"id {record.pid} · cam {record.camid + 1}" + (f"<br>d = {distance}" if distance else "")
    return (
        f'<figure class="{style}"><img src="data:image/jpeg;base64,{data}" alt="{words}" '
        f'title="{escape(record.path)}" width="{width}" height="{height}">'
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
