"""Which files change most."""

from __future__ import annotations

from collections.abc import Iterator

from controllers.application import ApplicationController
from models import Commit, Finding, Metric, Offense


def locate(commit: Commit) -> Iterator[Finding]:
    """The lines changed of each file; offenses for binary files, whose every version git keeps whole."""
    for change in commit.changes:
        yield Metric.of(commit, "hot-spots.lines", change.added + change.deleted, path=change.path)
        if change.binary:
            yield Offense.of(commit, "hot-spots.binary", "a binary file in the history", path=change.path)


class HotSpotsController(ApplicationController):
    def perform(self) -> None:
        self.respond_with(locate(self.params))
