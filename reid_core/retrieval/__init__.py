"""Retrieval: exact neighbours in blocks, k-reciprocal re-ranking, pseudo labels by clustering, query expansion."""

from reid_core.retrieval.clustering import jaccard_neighbours, pseudo_labels
from reid_core.retrieval.expansion import expand_queries
from reid_core.retrieval.gallery_index import GalleryIndex
from reid_core.retrieval.neighbours import Neighbours, nearest_neighbours
from reid_core.retrieval.pgvector_searcher import PgVectorSearcher
from reid_core.retrieval.reranking import rerank, rerank_blocks

__all__ = [
    "GalleryIndex",
    "Neighbours",
    "PgVectorSearcher",
    "expand_queries",
    "jaccard_neighbours",
    "nearest_neighbours",
    "pseudo_labels",
    "rerank",
    "rerank_blocks",
]
