"""Publishes a repository's commits on `commits`: each once, the oldest first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import msgspec
from karafka import Producer

from history import Repository
from models import Commit

AT_ONCE = 500


class Feed:
    """Sends what is new in `repository`. `published` are the commits that the topic has already."""

    def __init__(self, repository: Repository, producer: Producer, published: Iterable[str], limit: int) -> None:
        self._repository = repository
        self._producer = producer
        self._published = set(published)
        self._limit = limit

    def new(self) -> list[str]:
        """Which of the newest `limit` commits the topic does not have yet, newest first."""
        return [sha for sha in self._repository.shas(self._limit) if sha not in self._published]

    def publish(self, shas: Sequence[str]) -> None:
        """Send them in that order; all are confirmed by the broker when this returns."""
        commits = self._repository.commits(shas)
        while some := list(islice(commits, AT_ONCE)):
            self._producer.produce_many_sync(
                {"topic": "commits", "payload": commit, "key": commit.repository} for commit in some
            )
            self._published.update(commit.sha for commit in some)


def fitting(commits: Iterable[Commit], room: int) -> Iterator[Commit]:
    """The first of `commits` that fit into `room` bytes together."""
    for commit in commits:
        room -= len(msgspec.json.encode(commit))
        if room < 0:
            return
        yield commit
