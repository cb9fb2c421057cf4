"""What every perspective answers with."""

from __future__ import annotations

from collections.abc import Iterable

from karafka import Responder, outgoing

from models import Finding, Offense


def commit_of(finding: Finding) -> str:
    """The key: what was found in a commit stays in order."""
    return finding.sha


class FindingsResponder(Responder):
    offenses = outgoing("offenses", required=False, multiple=True, key=commit_of)
    metrics = outgoing("metrics", required=False, multiple=True, key=commit_of)

    def respond(self, findings: Iterable[Finding]) -> None:
        for one in findings:
            self.respond_to(self.offenses if isinstance(one, Offense) else self.metrics, one)
