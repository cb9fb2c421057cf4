"""How the linter is run: beside all else, on workers of its own."""

from __future__ import annotations

from karafka import Backoff, Worker


class LintWorker(Worker):
    queue = "lint"
    time_limit = 120.0
    max_retries = 5
    backoff = Backoff(1, 60)
