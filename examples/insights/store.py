"""What was found, in SQLite."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

from models import Finding, Metric, Offense

TABLES = """
CREATE TABLE IF NOT EXISTS offenses (
    id TEXT PRIMARY KEY, repository TEXT, sha TEXT, at TEXT, kind TEXT, text TEXT, path TEXT, line INTEGER);
CREATE TABLE IF NOT EXISTS metrics (
    id TEXT PRIMARY KEY, repository TEXT, sha TEXT, at TEXT, name TEXT, path TEXT, value REAL);
"""
# What is there already stays as it is: a message that comes twice changes nothing.
KEEP_OFFENSE = "INSERT OR IGNORE INTO offenses VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
KEEP_METRIC = "INSERT OR IGNORE INTO metrics VALUES (?, ?, ?, ?, ?, ?, ?)"


class Store:
    """A SQLite database at `path`, made if it is not there. Any thread: each call has a connection of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode = WAL")  # readers do not wait for the collector
            connection.executescript(TABLES)

    @classmethod
    def from_environment(cls) -> Self:
        """The one in the folder `INSIGHTS_FOLDER`, `.karafka/insights` by default."""
        return cls(Path(os.environ.get("INSIGHTS_FOLDER", ".karafka/insights")) / "insights.db")

    def keep(self, findings: Iterable[Finding]) -> None:
        """Keep all of them, or none and raise."""
        offenses, metrics = [], []
        for one in findings:
            if isinstance(one, Offense):
                offenses.append(_offense(one))
            else:
                metrics.append(_metric(one))
        with self._connection() as connection:
            connection.executemany(KEEP_OFFENSE, offenses)
            connection.executemany(KEEP_METRIC, metrics)

    def ask(self, question: str, *values: object) -> list[Any]:
        """The rows that a SELECT answers."""
        with self._connection() as connection:
            return connection.execute(question, values).fetchall()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A transaction: committed at the end, undone if it raises."""
        with closing(sqlite3.connect(self.path, timeout=30)) as connection, connection:
            yield connection


def _offense(one: Offense) -> tuple[object, ...]:
    return (one.id, one.repository, one.sha, one.at.isoformat(), one.kind, one.text, one.path, one.line)


def _metric(one: Metric) -> tuple[object, ...]:
    return (one.id, one.repository, one.sha, one.at.isoformat(), one.name, one.path, one.value)
