"""A gallery spread over PostgreSQL servers with pgvector, for what outgrows one machine; see docs/retrieval.md."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from reid_core.retrieval.gallery import GalleryFilter, Rows, SearchResult, distances_of, empty_result, exact_nearest
from reid_core.retrieval.pgvector_servers import PgVectorServers
from reid_core.retrieval.searchable_gallery import SearchableGallery

try:
    from psycopg import sql
except ImportError:
    sql = None  # PgVectorServers says what to install

_HNSW_WIDTH = 2000  # widest vectors that pgvector's HNSW index takes
_SELECT = "SELECT feature <-> %s AS distance, id, camid, timestamp, feature FROM {} WHERE {} ORDER BY distance LIMIT %s"
_PLANNER = "SELECT set_config('enable_indexscan', %s, true), set_config('enable_seqscan', %s, true)"
_HNSW = "SELECT set_config('hnsw.ef_search', %s, true), set_config('hnsw.iterative_scan', 'strict_order', true)"


class PgVectorSearcher(SearchableGallery):
    """The interface of `GalleryIndex` over one table on each of several PostgreSQL servers.

    servers: connection strings ("postgresql://user@host/database"), in an order that is kept from then on: an image
    lies on the server number id modulo their count, and every search asks all of them at once. width, metric: as
    for `GalleryIndex`. table: name of the tables, made where they are missing, as is the extension "vector".
    approximate: build and use an HNSW index on each server (at most 2000 numbers wide) instead of comparing with
    all rows. ef_search: length of its queue, 1 to 1000.

    Exact searches return what an exact `GalleryIndex` returns. Each `add` and `remove` is one transaction on each
    server, committed when all have succeeded; only a server lost between these commits leaves a part of them done
    (the error says on which). Several programs may search and change a gallery at the same time.

    Raises ImportError without the client, PgVectorError for servers that cannot be reached or hold another gallery,
    ValueError for arguments that do not fit.
    """

    def __init__(
        self,
        servers: Sequence[str],
        width: int,
        metric: str = "cosine",
        *,
        table: str = "gallery",
        approximate: bool = False,
        ef_search: int = 100,
    ):
        super().__init__(width, metric)
        if isinstance(servers, str) or not servers:
            raise ValueError(f"servers must be a list of at least one connection string, got {servers!r}.")
        if approximate and width > _HNSW_WIDTH:
            raise ValueError(f"pgvector's HNSW index takes up to {_HNSW_WIDTH} numbers, the width is {width}.")
        if not 1 <= ef_search <= 1000:
            raise ValueError(f"ef_search must be between 1 and 1000, got {ef_search}.")
        self.approximate, self._ef_search = approximate, ef_search
        description = f"width {self.width}, metric {metric}"
        indexes = {"filters": "btree (camid, timestamp)"}
        if approximate:
            indexes["hnsw"] = "hnsw (feature vector_l2_ops)"
        self._servers = PgVectorServers(servers, table, self.width, description, indexes)
        self._table = sql.Identifier(table)

    def __enter__(self) -> "PgVectorSearcher":
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def __len__(self) -> int:
        query = sql.SQL("SELECT count(*) FROM {}").format(self._table)
        return sum(self._servers.run(lambda number, cursor: cursor.execute(query).fetchone()[0]))

    @property
    def ids(self) -> np.ndarray:
        query = sql.SQL("SELECT id FROM {}").format(self._table)
        rows = self._servers.run(lambda number, cursor: cursor.execute(query).fetchall())
        return np.sort(np.array([row[0] for part in rows for row in part], dtype=np.int64))

    def _add(self, features: np.ndarray, rows: Rows) -> None:
        places = rows.ids % len(self._servers)
        known = sql.SQL("SELECT id FROM {} WHERE id = ANY(%s)").format(self._table)
        copy_in = sql.SQL("COPY {} (id, camid, timestamp, feature) FROM STDIN (FORMAT BINARY)").format(self._table)

        def insert(number: int, cursor: Any) -> list[int]:
            mine = np.flatnonzero(places == number)
            found = [row[0] for row in cursor.execute(known, (rows.ids[mine].tolist(),))]
            if not found and len(mine):
                with cursor.copy(copy_in) as copy:
                    copy.set_types(["int8", "int8", "float8", "vector"])
                    for row in mine:
                        time = rows.timestamps[row]
                        time = None if np.isnan(time) else float(time)
                        copy.write_row((int(rows.ids[row]), int(rows.camids[row]), time, features[row]))
            return found

        def check(found: list[list[int]]) -> None:
            present = np.sort(np.array([identity for part in found for identity in part], dtype=np.int64))
            self._refuse_known(present)

        self._servers.run(insert, check)

    def _remove(self, ids: np.ndarray) -> None:
        places = ids % len(self._servers)
        query = sql.SQL("DELETE FROM {} WHERE id = ANY(%s) RETURNING id").format(self._table)

        def delete(number: int, cursor: Any) -> list[int]:
            return [row[0] for row in cursor.execute(query, (ids[places == number].tolist(),))]

        def check(removed: list[list[int]]) -> None:
            self._refuse_unknown(np.setdiff1d(ids, [identity for part in removed for identity in part]))

        self._servers.run(delete, check)

    def _search(self, features: np.ndarray, k: int, camids: np.ndarray, common: GalleryFilter) -> SearchResult:
        conditions = [_condition(common.without(camid)) for camid in camids]
        parts = self._servers.run(lambda number, cursor: self._search_one(cursor, features, k, conditions))
        return self._merge(parts, k)

    def close(self) -> None:
        """Close the connections; what was added stays."""
        self._servers.close()

    def _search_one(
        self, cursor: Any, features: np.ndarray, k: int, conditions: list[tuple[Any, list]]
    ) -> list[list[tuple]]:
        """Of one server: for each query up to k hits (squared distance, id, camid, timestamp), nearest first."""
        cursor.execute(_HNSW, (str(self._ef_search),))
        hits, counts = [], {}
        for feature, (condition, values) in zip(features, conditions, strict=True):
            key = (condition.as_string(), str(values))
            if key not in counts:
                count = sql.SQL("SELECT count(*) FROM {} WHERE {}").format(self._table, condition)
                counts[key] = cursor.execute(count, values).fetchone()[0]
            hits.append(self._nearest(cursor, feature, min(k, counts[key]), counts[key], condition, values))
        return hits

    def _nearest(
        self, cursor: Any, feature: np.ndarray, k: int, candidates: int, condition: Any, values: list
    ) -> list[tuple]:
        if k == 0:
            return []
        select = sql.SQL(_SELECT).format(self._table, condition)
        found: list[tuple] = []

        def fetch(_: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
            found[:] = self._fetch(cursor, select, (feature, *values, count), count)
            return np.square([[row[0] for row in found]]), np.arange(count)[None]

        def rows_of(labels: np.ndarray) -> np.ndarray:
            return np.stack([found[label][4].to_numpy() for label in labels])

        def ids_of(labels: np.ndarray) -> np.ndarray:
            return np.array([found[label][1] for label in labels])

        # An approximate search is not asked for more than it found first; its hits are still in exact order.
        limit = min(2 * k, candidates) if self.approximate else candidates
        squared, labels = exact_nearest(feature[None], k, limit, fetch, rows_of, ids_of)
        return [(value, *found[label][1:4]) for value, label in zip(squared[0], labels[0], strict=True)]

    def _fetch(self, cursor: Any, select: Any, values: tuple, count: int) -> list[tuple]:
        """`count` rows, nearest first; where the HNSW index gives up before it has as many, all rows are compared."""
        for use_index in (True, False) if self.approximate else (False,):
            cursor.execute(_PLANNER, ("on" if use_index else "off", "off" if use_index else "on"))
            rows = cursor.execute(select, values, binary=True).fetchall()
            if len(rows) == count:
                break
        return rows

    def _merge(self, parts: list[list[list[tuple]]], k: int) -> SearchResult:
        result = empty_result(len(parts[0]), k)
        for query, lists in enumerate(zip(*parts, strict=True)):
            hits = sorted(((hit for part in lists for hit in part)), key=lambda hit: hit[:2])[:k]
            for place, (squared, identity, camid, timestamp) in enumerate(hits):
                result.distances[query, place] = distances_of(np.array(squared), self.metric)
                result.ids[query, place], result.camids[query, place] = identity, camid
                result.timestamps[query, place] = np.nan if timestamp is None else timestamp
        return result


def _condition(chosen: GalleryFilter) -> tuple[Any, list]:
    """A filter as SQL and its values."""
    conditions, values = ["TRUE"], []
    if chosen.only_camids is not None:
        conditions.append("camid = ANY(%s)")
        values.append(list(chosen.only_camids))
    if chosen.exclude_camids:
        conditions.append("camid <> ALL(%s)")
        values.append(list(chosen.exclude_camids))
    for end, comparison in zip(chosen.time_range or (), ("timestamp >= %s", "timestamp <= %s"), strict=False):
        if end is not None:
            conditions.append(comparison)
            values.append(float(end))
    if chosen.time_range is not None:
        conditions.append("timestamp IS NOT NULL")
    return sql.SQL(" AND ".join(conditions)), values
