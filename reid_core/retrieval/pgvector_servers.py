"""Connections to the PostgreSQL servers that hold one gallery together, and the table on each."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

try:
    import pgvector.psycopg
    import psycopg
    from psycopg import sql
except ImportError as error:
    psycopg, _IMPORT_ERROR = None, error

FORMAT = "reid-core gallery 1"
_INLINE_WIDTH = 1900  # widest vectors whose row fits a page of 8 KiB: inline, they need no second look-up
_COLUMNS = "id bigint PRIMARY KEY, camid bigint NOT NULL, timestamp double precision, feature vector({}) NOT NULL"
T = TypeVar("T")


class PgVectorError(RuntimeError):
    """A server or table that cannot be used as it is; the text says which, why, and what to do."""


class PgVectorServers:
    """One connection to each server; makes table, indexes and the extension "vector" where they are missing.

    servers: connection strings. table: name of the table on each. width: of its vectors. description: what must be
    the same whenever the table is used. indexes: suffix of the name -> method and columns in SQL.

    Raises ImportError without the client, PgVectorError for servers that cannot be reached, or whose table was made
    with another description or another number or order of servers.
    """

    def __init__(self, servers: Sequence[str], table: str, width: int, description: str, indexes: Mapping[str, str]):
        if psycopg is None:
            raise ImportError(
                f"The vector database's client is not installed ({_IMPORT_ERROR}); "
                'pip install "reid-core[vector-database]".'
            )
        self._name, self._width, self._indexes, self._connections = table, width, indexes, []
        self._pool = ThreadPoolExecutor(len(servers), thread_name_prefix="pgvector")
        try:
            for number, server in enumerate(servers):
                described = f"{FORMAT}: {description}, server {number} of {len(servers)}"
                self._connections.append(self._connect(server, number, described))
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._connections)

    def close(self) -> None:
        """Close the connections; the tables stay."""
        for connection in self._connections:
            connection.close()
        self._pool.shutdown()

    def run(self, work: Callable[[int, Any], T], check: Callable[[list[T]], None] | None = None) -> list[T]:
        """Run `work(server number, cursor)` on all servers at once, one transaction each: their answers.

        Committed if all succeeded and `check(answers)` raises nothing, else all are rolled back. Raises
        PgVectorError, saying what was committed, if a server fails.
        """
        done: list[int] = []
        try:
            futures = [
                self._pool.submit(lambda number, connection: work(number, connection.cursor()), number, connection)
                for number, connection in enumerate(self._connections)
            ]
            answers = _results(futures)
            if check is not None:
                check(answers)
            for number, connection in enumerate(self._connections):
                connection.commit()
                done.append(number)
        except psycopg.Error as error:
            self._roll_back()
            state = f"committed on server {', '.join(map(str, done))} only" if done else "nothing was changed"
            raise PgVectorError(
                f"A server failed ({str(error).strip() or type(error).__name__}); {state}. Where a connection was "
                "lost, connect again."
            ) from error
        except BaseException:
            self._roll_back()
            raise
        return answers

    def _roll_back(self) -> None:
        for connection in self._connections:
            with contextlib.suppress(psycopg.Error):  # a lost connection rolls back by itself
                connection.rollback()

    def _connect(self, server: str, number: int, description: str) -> Any:
        try:
            connection = psycopg.connect(server)
        except psycopg.Error as error:
            raise PgVectorError(f"Server {number} cannot be reached: {str(error).strip()}") from error
        try:
            # Two programs may make the table at once; the second waits here.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (self._name,))
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            pgvector.psycopg.register_vector(connection)
            self._make_table(connection, description, number)
            connection.commit()
            # From now on all statements of one search see the same rows, whatever others commit meanwhile.
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        except psycopg.Error as error:
            connection.close()
            raise PgVectorError(f"Server {number} cannot hold table {self._name}: {str(error).strip()}") from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_table(self, connection: Any, description: str, number: int) -> None:
        """The table, and its description as PostgreSQL's comment, by which a wrong order of servers is found out."""
        table = sql.Identifier(self._name)
        name = table.as_string(connection)
        there = connection.execute("SELECT to_regclass(%s), obj_description(to_regclass(%s))", (name, name)).fetchone()
        if there[0] is not None and there[1] != description:
            raise PgVectorError(
                f"Table {name} of server {number} is '{there[1] or 'not a gallery'}', not '{description}'; give the "
                "servers, width and metric it was made with, or another table."
            )
        if there[0] is None:
            columns = sql.SQL(_COLUMNS).format(sql.Literal(self._width))
            connection.execute(sql.SQL("CREATE TABLE {} ({})").format(table, columns))
            if self._width <= _INLINE_WIDTH:
                connection.execute(sql.SQL("ALTER TABLE {} ALTER feature SET STORAGE PLAIN").format(table))
            connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(table, sql.Literal(description)))
        for suffix, method in self._indexes.items():
            index = sql.Identifier(f"{self._name}_{suffix}")
            make = sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING {}")
            connection.execute(make.format(index, table, sql.SQL(method)))


def _results(futures: list) -> list:
    """All results, after all have ended: a connection must not be rolled back while another thread uses it."""
    failures = [failure for future in futures if (failure := future.exception()) is not None]
    if failures:
        raise failures[0]
    return [future.result() for future in futures]
