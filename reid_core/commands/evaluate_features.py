"""Score features made anywhere: mAP, CMC and mINP of a query file against a gallery file."""

import argparse
import csv
import io
import sys
from pathlib import Path
from typing import TextIO

import numpy as np

from reid_core.commands.running import command_parser, run_command
from reid_core.evaluation import QueryExpansion, ReIDEvaluator, Reranking, results_table, save_results
from reid_core.evaluation.labelled_features import LabelledFeatures, read_query_and_gallery
from reid_core.retrieval.distance import METRICS
from reid_core.utils.file_io import write_atomically

_EXAMPLES = """examples:
  %(prog)s query.parquet gallery.parquet
  %(prog)s query.npz gallery.npz --metric euclidean --normalize --ranks 1 5 10 20
  %(prog)s query.h5 gallery.h5 --rerank --query-expansion --json metrics.json --per-query queries.csv
  %(prog)s all.parquet all.parquet

Files have the columns feature, pid and camid (or features, pids, camids). Of a file with a column split only the rows
of query, or gallery, count. Identity -1, or none, is junk.
"""


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments of the command."""
    parser = command_parser(__doc__, _EXAMPLES)
    parser.add_argument("query", help="a feature file: .parquet, .npz, .h5, .hdf5")
    parser.add_argument("gallery", help="another, or the same with a column split")
    parser.add_argument("--metric", choices=sorted(METRICS), default="cosine", help="default: %(default)s")
    parser.add_argument("--normalize", action="store_true", help="scale features to unit length (cosine always does)")
    parser.add_argument("--no-camera-rule", action="store_true", help="leave no image out, whatever its camera")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 5, 10], metavar="R", help="of the CMC (1 5 10)")
    parser.add_argument("--fpr", type=float, nargs="+", default=[], metavar="RATE", help="also TPR at these FPR")
    parser.add_argument("--rerank", action="store_true", help="also after k-reciprocal re-ranking")
    parser.add_argument("--k1", type=int, default=Reranking.k1, help="default: %(default)s")
    parser.add_argument("--k2", type=int, default=Reranking.k2, help="default: %(default)s")
    parser.add_argument("--lambda", type=float, default=Reranking.lambda_value, dest="lambda_value", metavar="L")
    parser.add_argument("--query-expansion", action="store_true", help="also after alpha query expansion")
    parser.add_argument("--expansion-k", type=int, default=QueryExpansion.k, metavar="K", help="default: %(default)s")
    parser.add_argument("--alpha", type=float, default=QueryExpansion.alpha, help="default: %(default)s")
    parser.add_argument("--queries-only", action="store_true", help="do not expand the gallery's features")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, percent")
    parser.add_argument("--per-query", type=Path, metavar="CSV", help="write each query's results, percent")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    arguments = parse_arguments(argv)
    return run_command(lambda out: _evaluate(arguments, out))


def _evaluate(arguments: argparse.Namespace, out: TextIO) -> None:
    sides = read_query_and_gallery(arguments.query, arguments.gallery, needs_cameras=not arguments.no_camera_rule)
    evaluator = ReIDEvaluator(
        Path(arguments.query).stem,
        *(side.records for side in sides),
        metric=arguments.metric,
        normalize=arguments.normalize,
        cmc_ranks=arguments.ranks,
        per_query=arguments.per_query is not None,
        camera_rule=not arguments.no_camera_rule,
        false_positive_rates=arguments.fpr,
        expansion=QueryExpansion(arguments.expansion_k, arguments.alpha, augment_gallery=not arguments.queries_only)
        if arguments.query_expansion
        else None,
        reranking=Reranking(arguments.k1, arguments.k2, arguments.lambda_value) if arguments.rerank else None,
    )
    results = evaluator.evaluate(*(side.features for side in sides))
    per_query = results.pop("per_query", None)
    if arguments.json is not None:
        save_results(arguments.json, results)
    if per_query is not None:
        write_atomically(arguments.per_query, _csv(sides[0], per_query).encode())
    out.write(results_table({evaluator.name: results}) + "\n")


def _csv(query: LabelledFeatures, results: dict[str, np.ndarray]) -> str:
    """A row for each query, its labels as the file has them."""
    count = len(query.records)
    labels = {
        "path": query.columns.get("path", [f"row {row}" for row in range(count)]),
        "pid": query.columns["pid"],
        "camid": query.columns.get("camid", query.records.camids),
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*labels, *results])
    for row in range(count):
        found = (values[row].item() for values in results.values())
        writer.writerow([*(column[row] for column in labels.values()), *("" if x != x else x for x in found)])
    return text.getvalue()


if __name__ == "__main__":
    sys.exit(main())
