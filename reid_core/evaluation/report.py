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
from reid_core.evaluation.results import RankingResults, scalar_columns
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
) -> None:
    """Write the report to `path`.

    rows: metrics in percent by model, in the order of the table ("colour histogram", "untrained", "trained").
    history: rows of the run's metrics ("iteration", "epoch", losses, "lr", "mAP" ...), may be empty.
    results: of the model shown, with per-query results and ranked lists (`evaluate(per_query=True, top_k=...)`;
    a `top_k` above `list_length` leaves room for unranked images of the query's own camera).
    query_records, gallery_records: the records that were ranked. distances: those of pairs of one identity [N] and of
    different ones [M], as `sample_distances` gives them. settings: shown as they are. lists: queries shown of the
    best, and of the worst. metric: names the distances.

    Raises ValueError for results without ranked lists, OSError for a picture that cannot be read.
    """
    if results.per_query is None or results.ranked_lists is None:
        raise ValueError("The report shows ranked lists: pass results of evaluate(per_query=True, top_k=20).")
    if len(query_records) != results.num_queries:
        raise ValueError(f"The results are of {results.num_queries} queries, {len(query_records)} records were passed.")
    curves = [
        ("Losses", figures.loss_figure(history)),
        ("Right answers in training", figures.accuracy_figure(history)),
        ("mAP and rank-1 on the test set", figures.metric_figure(history)),
        ("Learning rate", figures.learning_rate_figure(history)),
    ]
    retrieval = [
        ("Queries with a match up to rank r (CMC)", figures.cmc_figure(results.cmc)),
        ("Distances in the test set", figures.distance_figure(*distances, metric)),
    ]
    sections = [
        _section("Results", _numbers(rows, results, len(gallery_records))),
        _section("Training", _plots(curves)),
        _section("Retrieval", _plots(retrieval)),
        _section("Ranked lists", _lists(results, query_records, gallery_records, lists, list_length)),
        _section("Settings", _settings(settings)),
    ]
    subtitle = f"{results.num_queries} queries against a gallery of {len(gallery_records)} images"
    page = PAGE.substitute(
        title=escape(title), subtitle=escape(subtitle), style=STYLE, sections="\n".join(filter(None, sections))
    )
    write_atomically(Path(path), page.encode())


def _section(heading: str, content: str) -> str:
    if not content:
        return ""
    name = heading.lower().replace(" ", "-")
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{heading}</h2>\n{content}\n</section>'


def _numbers(rows: Mapping[str, Mapping[str, Any]], results: RankingResults, gallery: int) -> str:
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
        f"<caption>Percent; the best of each column stands out.{note}</caption>"
        f'<thead><tr><th scope="col">model</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _plots(plots: Sequence[tuple[str, str]]) -> str:
    drawn = "".join(
        f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>" for caption, svg in plots if svg
    )
    return f'<div class="plots">{drawn}</div>' if drawn else ""


def _lists(
    results: RankingResults, query: Sequence[ReIDImage], gallery: Sequence[ReIDImage], count: int, length: int
) -> str:
    best, worst = best_and_worst(results, [record.pid for record in query], count)
    key = (
        '<p class="key"><span><i style="color:var(--match)"></i>match: the query\'s identity, another camera</span>'
        '<span><i style="color:var(--wrong)"></i>another identity</span>'
        '<span><i style="color:var(--ignored);border-style:dashed;border-width:2px"></i>'
        "same identity and camera: not ranked</span></p>"
    )
    parts = [key]
    for heading, positions in (("Best queries", best), ("Worst queries", worst)):
        if positions:
            parts.append(f"<h3>{heading}</h3>")
            parts += [ranked_list(results, position, query, gallery, length) for position in positions]
    return "\n".join(parts)


def _settings(settings: Mapping[str, Any]) -> str:
    body = "".join(
        f'<tr><th scope="row">{escape(str(name))}</th><td>{escape(str(value))}</td></tr>'
        for name, value in settings.items()
    )
    return f'<div class="scroll"><table class="settings"><tbody>{body}</tbody></table></div>' if body else ""
