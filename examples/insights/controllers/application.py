"""What the perspectives share."""

from __future__ import annotations

from collections.abc import Iterable

from karafka import Controller

from models import Commit, Finding, Offense


class ApplicationController(Controller[Commit]):
    """Looks at a commit and answers with what it found."""

    def answer(self, findings: Iterable[Finding]) -> None:
        """Send them, and wait until the broker has them all: only then may the commit count as looked at."""
        self.app.producer.produce_many_sync(
            {
                "topic": "offenses" if isinstance(finding, Offense) else "metrics",
                "payload": finding,
                "key": finding.sha,
            }
            for finding in findings
        )
