"""How well a commit's message says what it does."""

from __future__ import annotations

import re
from collections.abc import Iterator

from controllers.application import ApplicationController
from models import Commit, Finding, Metric, Offense

LONG_SUBJECT = 72
SHORT_SUBJECT = 10
UNFINISHED = re.compile(r"(fixup|squash|amend)!|wip\b", re.IGNORECASE)


def read(commit: Commit) -> Iterator[Finding]:
    """The length of the subject; offenses against the habits that git's own manual asks for."""
    lines = commit.message.strip().split("\n")
    subject = lines[0].strip()
    yield Metric.of(commit, "message.subject", len(subject))
    if commit.is_merge:
        return
    if not subject:
        yield Offense.of(commit, "message.empty", "no message at all")
        return
    if len(subject) > LONG_SUBJECT:
        yield Offense.of(commit, "message.long", f"a subject of {len(subject)} characters")
    if len(subject) < SHORT_SUBJECT:
        yield Offense.of(commit, "message.short", f"{subject!r} says little")
    if subject.endswith("."):
        yield Offense.of(commit, "message.full-stop", "a subject that ends with a full stop")
    if len(lines) > 1 and lines[1].strip():
        yield Offense.of(commit, "message.no-blank-line", "no blank line between subject and body")
    if UNFINISHED.match(subject):
        yield Offense.of(commit, "message.unfinished", f"{subject!r} was meant to be squashed")


class MessageController(ApplicationController):
    def perform(self) -> None:
        self.respond_with(read(self.params))
