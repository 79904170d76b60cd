"""The protocol written as plainly as possible: Python's exact fractions, one query, one gallery image at a time."""

from fractions import Fraction
from typing import NamedTuple


class PlainRanking(NamedTuple):
    """order: gallery positions without junk, nearest first, with those that the protocol leaves out. matches: the
    ranks of true matches among the kept ones."""

    order: list[int]
    matches: list[int]


def squared_distance(left, right):
    return sum((Fraction(float(a)) - Fraction(float(b))) ** 2 for a, b in zip(left, right, strict=True))


def rank_one(query, gallery, pid, camid, gallery_pids, gallery_camids, camera_rule=True) -> PlainRanking:
    candidates = [i for i in range(len(gallery)) if gallery_pids[i] != -1]
    order = sorted(candidates, key=lambda i: (squared_distance(query, gallery[i]), i))
    rank, matches = 0, []
    for i in order:
        if camera_rule and gallery_pids[i] == pid and gallery_camids[i] == camid:
            continue
        rank += 1
        if gallery_pids[i] == pid:
            matches.append(rank)
    return PlainRanking(order, matches)


def average_precision(matches: list[int]) -> float:
    return sum((number + 1) / rank for number, rank in enumerate(matches)) / len(matches)


def score(query, gallery, query_pids, gallery_pids, query_camids, gallery_camids, max_rank=50, camera_rule=True):
    """mAP, mINP, CMC and each query's ranking; None for junk queries. Needs a query with a true match."""
    rankings = [
        None if pid == -1 else rank_one(features, gallery, pid, camid, gallery_pids, gallery_camids, camera_rule)
        for features, pid, camid in zip(query, query_pids, query_camids, strict=True)
    ]
    counted = [ranking.matches for ranking in rankings if ranking and ranking.matches]
    return {
        "mAP": sum(map(average_precision, counted)) / len(counted),
        "mINP": sum(len(matches) / matches[-1] for matches in counted) / len(counted),
        "cmc": [sum(matches[0] <= rank for matches in counted) / len(counted) for rank in range(1, max_rank + 1)],
        "valid": len(counted),
        "rankings": rankings,
    }


def pair_distances(query, gallery, query_pids, gallery_pids, query_camids, gallery_camids):
    """Squared distances of the pairs that verification counts: of one identity (other camera), of two identities."""
    matching, others = [], []
    for row, pid, camid in zip(query, query_pids, query_camids, strict=True):
        for image, gallery_pid, gallery_camid in zip(gallery, gallery_pids, gallery_camids, strict=True):
            if -1 in (pid, gallery_pid) or (pid == gallery_pid and camid == gallery_camid):
                continue
            (matching if pid == gallery_pid else others).append(squared_distance(row, image))
    return matching, others
