"""Processes that answer by responders, killed with -9 again and again: each answer is there, in order, none missing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.brokers import Running, until
from tests.process.servers import PYTHON, Server, app, started
from tests.specs.exact import Flow, Line
from tests.specs.run import Stage

ROUNDS = 5
RATE = 900

ONE = """
class PassResponder(Responder):
    results = outgoing({target!r}, key=lambda said: said.partition(" ")[0])

    {define} respond(self, partition, number):
        self.respond_to(self.results, f"{{partition}} {{number}}")


@app.topic({source!r}, retry=Backoff(0.05, 0.5){options})
class PassController(Controller[int]):
    {define} perform(self):
        {wait}self.respond_with(self.message.partition, self.params)
"""
SEVERAL = """
class PassResponder(Responder):
    results = outgoing({target!r}, multiple=True, key=lambda said: said.partition(" ")[0])

    {define} respond(self, messages):
        for one in messages:
            self.respond_to(self.results, f"{{one.partition}} {{one.payload}}")


@app.topic({source!r}, retry=Backoff(0.05, 0.5), max_messages=200, max_wait=0.02{options})
class PassController(BatchController[int]):
    {define} perform(self):
        {wait}self.respond_with(self.messages)
"""


def text(line: Line, kind: str) -> str:
    waits = "async" in kind
    body = (SEVERAL if "batch" in kind else ONE).format(
        source=line.source,
        target=line.target,
        define="async def" if waits else "def",
        wait="await " if waits else "",
        options=', order="key"' if "key" in kind else "",
    )
    # Answers dawdle, and commits are quick: who does not wait for the ones before the others loses some.
    slow = {"linger.ms": 150}
    return app(line.stage.bootstrap, line.group, body, kafka=slow, drain_timeout=5.0, commit_interval=0.05)


def judged(line: Line, counts: list[int]) -> Iterator[str]:
    """What is wrong with the answers: one that is missing, or that was passed over and came later."""
    ahead, doubled = [0] * line.partitions, 0
    for one in line.seen():
        partition, number = map(int, one.split())
        if number > ahead[partition]:
            yield f"{partition}: {number} came before {ahead[partition]}"
            ahead[partition] = number
        doubled += number < ahead[partition]
        ahead[partition] = max(ahead[partition], number + 1)
    print(f"{sum(counts)} sent, {doubled} answers came again")
    yield from (
        f"{at}: {end} of {sent}" for at, (end, sent) in enumerate(zip(ahead, counts, strict=True)) if end != sent
    )


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["def", "async batch"])
def test_kill_after_kill_each_answer_is_there_and_in_order(kafka: Running, tmp_path: Path, kind: str) -> None:
    """An answer that was not confirmed comes again: after a kill answers start over a little further back."""
    line, chance, began = Line(Stage(kafka.bootstrap), 3), random.Random(7), monotonic()
    (tmp_path / "app.py").write_text(text(line, kind))
    with ExitStack() as stack:
        now = dict[int, Server]()

        def start(slot: int) -> None:
            command = [*PYTHON, "-m", "karafka", "server", "--log-format", "json"]
            now[slot] = stack.enter_context(started(Server(tmp_path, command, {})))
            now[slot].event("server_started")

        start(0)
        start(1)
        with Flow(line, RATE) as flow:
            until(lambda: sum(filter(None, line.committed())) > RATE // 2, 30)
            for turn in range(ROUNDS):
                sleep(chance.uniform(0.3, 1.0))  # where the strike falls
                now[turn % 2].kill()
                start(turn % 2)
                before = sum(filter(None, line.committed()))
                until(lambda more=before: sum(filter(None, line.committed())) > more + RATE // 3, 30)  # type: ignore[misc]  # this turn's
        counts = flow.counts()
        until(lambda: line.committed() == counts, 30)
        failed = sum(len(one.happened("failed")) for one in now.values())
        for server in now.values():
            assert server.stop() == 0, str(server.heard)
    print(f"{kind}: {ROUNDS} kills in {monotonic() - began:.0f} s")
    assert list(judged(line, counts)) == []
    assert failed == 0
