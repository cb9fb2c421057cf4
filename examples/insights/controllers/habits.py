"""When people work."""

from __future__ import annotations

from collections.abc import Iterator

from controllers.application import ApplicationController
from models import Commit, Finding, Metric, Offense

MORNING = 6
SATURDAY = 5


def watch(commit: Commit) -> Iterator[Finding]:
    """The author's local hour (0 to 23) and weekday (0 is Monday); offenses for nights and weekends."""
    hour, weekday = commit.at.hour, commit.at.weekday()
    yield Metric.of(commit, "habits.hour", hour)
    yield Metric.of(commit, "habits.weekday", weekday)
    if hour < MORNING:
        yield Offense.of(commit, "habits.night", f"committed at {commit.at:%H:%M}")
    if weekday >= SATURDAY:
        yield Offense.of(commit, "habits.weekend", f"committed on a {commit.at:%A}")


class HabitsController(ApplicationController):
    def perform(self) -> None:
        self.respond_with(watch(self.params))
