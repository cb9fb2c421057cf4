"""How much a commit changes."""

from __future__ import annotations

from collections.abc import Iterator

from controllers.application import ApplicationController
from models import Commit, Finding, Metric, Offense

MANY_LINES = 500
MANY_FILES = 30


def weigh(commit: Commit) -> Iterator[Finding]:
    """Lines and files; offenses for more than a reviewer can follow. Merges bring what was weighed before."""
    added = sum(change.added for change in commit.changes)
    deleted = sum(change.deleted for change in commit.changes)
    files = len(commit.changes) + commit.left_out
    yield Metric.of(commit, "size.added", added)
    yield Metric.of(commit, "size.deleted", deleted)
    yield Metric.of(commit, "size.files", files)
    if added + deleted > MANY_LINES:
        yield Offense.of(commit, "size.lines", f"{added + deleted} lines in one commit")
    if files > MANY_FILES:
        yield Offense.of(commit, "size.files", f"{files} files in one commit")


class SizeController(ApplicationController):
    def perform(self) -> None:
        self.respond_with(weigh(self.params))
