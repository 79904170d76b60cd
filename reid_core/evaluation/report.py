"""One HTML file that shows what a model can do: numbers, curves, and what it found for its best and worst queries.

The file needs nothing beside itself: pictures and curves are in it, no script, no font, no address.
"""

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from reid_core.evaluation import report_figures as figures
from reid_core.evaluation.report_lists import best_and_worst, ranked_list
from reid_core.evaluation.report_page import PAGE, STYLE
from reid_core.evaluation.report_pictures import Picture, picture_plots
from reid_core.evaluation.results import RankingResults, scalar_columns, variant_rows
from reid_core.structures import ReIDImage
from reid_core.utils.file_io import write_atomically


def write_report(
    path: str | os.PathLike,
    title: str,
    rows: Mapping[str, Mapping[str, Any]],
    history: Sequence[Mapping[str, Any]],
    results: RankingResults,
    query_records: Sequence[ReIDImage],
    gallery_records: Sequence[ReIDImage],
    distances: tuple[np.ndarray, np.ndarray],
    settings: Mapping[str, Any],
    *,
    metric: str = "euclidean",
    lists: int = 5,
    list_length: int = 10,
    pictures: Mapping[str, Sequence[Picture]] | None = None,
    camera_rule: bool = True,
    cameras: bool = True,
) -> None:
    """Write the report to `path`.

    rows: metrics in percent by model, in the order of the table ("colour histogram", "untrained", "trained"); each
    variant of a model's ("reranked/mAP") has a row of its own.
    history: rows of the run's metrics ("iteration", "epoch", losses, "lr", "mAP" ...), may be empty.
    results: of the model shown, with per-query results and ranked lists (`evaluate(per_query=True, top_k=...)`;
    a `top_k` above `list_length` leaves room for unranked images of the query's own camera).
    query_records, gallery_records: the records that were ranked. distances: those of pairs of one identity [N] and of
    different ones [M], as `sample_distances` gives them. settings: shown as they are. lists: queries shown of the
    best, and of the worst; 0 for no lists, where there are no image files. metric: names the distances. pictures: by
    the heading of their section. camera_rule: whether images of the query's identity and camera are left out.
    cameras: False where the records' cameras say nothing about the picture, and are not shown.

    Raises ValueError for results without the ranked lists to show, OSError for a picture that cannot be read.
    """
    if lists and (results.per_query is None or results.ranked_lists is None):
        raise ValueError("The report shows ranked lists: pass results of evaluate(per_query=True, top_k=20).")
    if len(query_records) != results.num_queries:
        raise ValueError(f"The results are of {results.num_queries} queries, {len(query_records)} records were passed.")
    curves = [
        ("Losses", figures.loss_figure(history)),
        ("Right answers in training", figures.accuracy_figure(history)),
        ("mAP and rank-1 on the test set", figures.metric_figure(history)),
        ("Pseudo labels against the identities", figures.clustering_figure(history)),
        ("Clusters, and images in none (outliers)", figures.cluster_count_figure(history)),
        ("Learning rate", figures.learning_rate_figure(history)),
    ]
    retrieval = [
        ("Queries with a match up to rank r (CMC)", figures.cmc_figure(results.cmc)),
        ("Distances in the test set", figures.distance_figure(*distances, metric, camera_rule)),
    ]
    ranked = ""
    if lists:
        ranked = _key(camera_rule) + _lists(results, query_records, gallery_records, lists, list_length, cameras)
    sections = [
        _section("Results", _numbers(rows, results, len(gallery_records))),
        _section("Training", _plots(curves)),
        _section("Retrieval", _plots(retrieval)),
        *(_section(heading, picture_plots(shown)) for heading, shown in (pictures or {}).items()),
        _section("Ranked lists", ranked),
        _section("Settings", _settings(settings)),
    ]
    subtitle = f"{results.num_queries} queries against a gallery of {len(gallery_records)} images"
    page = PAGE.substitute(
        title=escape(title), subtitle=escape(subtitle), style=STYLE, sections="\n".join(filter(None, sections))
    )
    write_atomically(Path(path), page.encode("utf-8", "backslashreplace"))


def _section(heading: str, content: str) -> str:
    if not content:
        return ""
    name = heading.lower().replace(" ", "-")
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{heading}</h2>\n{content}\n</section>'


def _numbers(rows: Mapping[str, Mapping[str, Any]], results: RankingResults, gallery: int) -> str:
    rows = variant_rows(rows)
    columns = scalar_columns(rows)
    best = {column: max(row[column] for row in rows.values() if column in row) for column in columns}

    def cell(row: Mapping[str, Any], column: str) -> str:
        if column not in row:
            return "<td>&ndash;</td>"
        style = ' class="best"' if row[column] == best[column] and len(rows) > 1 else ""
        return f"<td{style}>{row[column]:.1f}</td>"

    head = "".join(f'<th scope="col">{escape(figures.spoken_name(column))}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(cell(row, column) for column in columns)}</tr>'
        for name, row in rows.items()
    )
    uncounted = results.num_queries - results.num_valid_queries
    note = f" {uncounted} queries without a true match are not counted." if uncounted else ""
    return (
        '<div class="scroll"><table class="numbers">'
        f"<caption>Percent{'; the best of each column stands out' if len(rows) > 1 else ''}.{note}</caption>"
        f'<thead><tr><th scope="col">model</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _plots(plots: Sequence[tuple[str, str]]) -> str:
    drawn = "".join(
        f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>" for caption, svg in plots if svg
    )
    return f'<div class="plots">{drawn}</div>' if drawn else ""


def _key(camera_rule: bool) -> str:
    """What the frames mean."""
    parts = [
        ("--match", "", "match: the query's identity" + (", another camera" if camera_rule else "")),
        ("--wrong", "", "another identity"),
        ("--ignored", ";border-style:dashed;border-width:2px", "same identity and camera: not ranked"),
    ]
    shown = parts if camera_rule else parts[:2]
    drawn = "".join(f'<span><i style="color:var({color}){style}"></i>{words}</span>' for color, style, words in shown)
    return f'<p class="key">{drawn}</p>\n'


def _lists(
    results: RankingResults,
    query: Sequence[ReIDImage],
    gallery: Sequence[ReIDImage],
    count: int,
    length: int,
    cameras: bool,
) -> str:
    best, worst = best_and_worst(results, [record.pid for record in query], count)
    parts = []
    for heading, positions in (("Best queries", best), ("Worst queries", worst)):
        if positions:
            parts.append(f"<h3>{heading}</h3>")
            parts += [ranked_list(results, position, query, gallery, length, cameras) for position in positions]
    return "\n".join(parts)


def _settings(settings: Mapping[str, Any]) -> str:
    body = "".join(
        f'<tr><th scope="row">{escape(str(name))}</th><td>{escape(str(value))}</td></tr>'
        for name, value in settings.items()
    )
    return f'<div class="scroll"><table class="settings"><tbody>{body}</tbody></table></div>' if body else ""
