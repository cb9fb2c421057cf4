"""Servers that answer by responders, and what is to hold of their answers whatever becomes of servers and brokers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from tests.process.servers import PYTHON, Server, app, started
from tests.specs import visible
from tests.specs.exact import Line

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
# Answers dawdle, whoever waits for them, and commits are quick: who does not wait for the ones before the others loses
# some.
SLOW = {"linger.ms": 150}
DAWDLING = """
from karafka.sender import ConfluentSender

ConfluentSender.hasten = ConfluentSender.serve
"""


def text(line: Line, kind: str, kafka: Mapping[str, object] | None = None, **settings: Any) -> str:
    """The app.py of a member of the line's group; settings are `App`'s."""
    waits = "async" in kind
    answering = (SEVERAL if "batch" in kind else ONE).format(
        source=line.source,
        target=line.target,
        define="async def" if waits else "def",
        wait="await " if waits else "",
        options=', order="key"' if "key" in kind else "",
    )
    told = {"drain_timeout": 5.0, "commit_interval": 0.05, **settings}
    return app(line.stage.bootstrap, line.group, DAWDLING + answering, kafka={**SLOW, **(kafka or {})}, **told)


class Servers:
    """Several `karafka server`s of one app, by number; each may be killed, stopped, started again."""

    def __init__(self, folder: Path, source: str) -> None:
        (folder / "app.py").write_text(source)
        self._folder = folder
        self._stack = ExitStack()
        self.now: dict[int, Server] = {}
        self.all: list[Server] = []

    def start(self, number: int) -> Server:
        command = [*PYTHON, "-m", "karafka", "server", "--log-format", "json"]
        server = self._stack.enter_context(started(Server(self._folder, command, {})))
        server.event("server_started")
        self.now[number] = server
        self.all.append(server)
        return server

    def failed(self) -> int:
        """How many messages failed, by all there were."""
        return sum(len(one.happened("failed")) for one in self.all)

    def stop(self) -> None:
        for server in self.now.values():
            assert server.stop() == 0, str(server.heard)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def judged(line: Line, counts: Sequence[int]) -> Iterator[str]:
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


def early(line: Line) -> list[str]:
    """What is committed, and whose answers are not there."""
    kept = line.committed()
    found = {tuple(map(int, one.split())) for one in visible.seen(line.stage.bootstrap, line.target, line.results)}
    ends = ((at, end or 0) for at, end in enumerate(kept))
    return [f"{at}: {number} of {end}" for at, end in ends for number in range(end) if (at, number) not in found]
