"""The events: what travels through the topics, as JSON, and what controllers get as `params`."""

from __future__ import annotations

from datetime import datetime
from typing import Self, TypeAlias

from msgspec import Struct


class Change(Struct, frozen=True, kw_only=True):
    """What a commit did to one file. A binary file has no lines; a renamed one has its new path."""

    path: str
    added: int
    deleted: int
    binary: bool


class Commit(Struct, frozen=True, kw_only=True):
    """On `commits`, keyed by repository. `at` keeps the author's own offset from UTC: it tells their local hour."""

    repository: str
    folder: str  # where the repository lies, for perspectives that read files
    sha: str
    parents: tuple[str, ...]
    author: str
    at: datetime
    message: str
    changes: tuple[Change, ...]
    left_out: int  # how many changes of a huge commit are not in `changes`

    @property
    def is_merge(self) -> bool:
        return len(self.parents) > 1


class Offense(Struct, frozen=True, kw_only=True, tag="offense"):
    """On `offenses`, keyed by commit: what could be better, and where. `kind` begins with its perspective."""

    id: str
    repository: str
    sha: str
    at: datetime
    kind: str
    text: str
    path: str
    line: int

    @classmethod
    def of(cls, commit: Commit, kind: str, text: str, *, path: str = "", line: int = 0, column: int = 0) -> Self:
        """Found again, it gets the same id: that is what makes repeats harmless."""
        return cls(
            id=f"{commit.repository}/{commit.sha}/{kind}/{path}:{line}:{column}",
            repository=commit.repository,
            sha=commit.sha,
            at=commit.at,
            kind=kind,
            text=text,
            path=path,
            line=line,
        )


class Metric(Struct, frozen=True, kw_only=True, tag="metric"):
    """On `metrics`, keyed by commit: a number about the commit, or about one file at that commit."""

    id: str
    repository: str
    sha: str
    at: datetime
    name: str
    path: str
    value: float

    @classmethod
    def of(cls, commit: Commit, name: str, value: float, *, path: str = "") -> Self:
        """Measured again, it gets the same id."""
        return cls(
            id=f"{commit.repository}/{commit.sha}/{name}/{path}",
            repository=commit.repository,
            sha=commit.sha,
            at=commit.at,
            name=name,
            path=path,
            value=value,
        )


Finding: TypeAlias = Offense | Metric
