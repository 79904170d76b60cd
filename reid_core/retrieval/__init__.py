"""Retrieval: exact neighbours in blocks, k-reciprocal re-ranking, pseudo labels by clustering, query expansion.

Each name is imported when it is first asked for: evaluation needs the distances, not faiss, scikit-learn or a
database's client.
"""

import importlib
from typing import Any

_HOMES = {
    "GalleryIndex": "gallery_index",
    "Neighbours": "neighbours",
    "PgVectorSearcher": "pgvector_searcher",
    "center_cameras": "clustering",
    "combine_features": "ensemble",
    "expand_queries": "expansion",
    "jaccard_neighbours": "clustering",
    "nearest_neighbours": "neighbours",
    "pseudo_labels": "clustering",
    "rerank": "reranking",
    "rerank_blocks": "reranking",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
