"""Processes killed under the newer group protocol (KIP-848), and with `async def`: results are seen once, in order."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from time import monotonic, sleep

import pytest

from tests.brokers import Running, configure_group, until
from tests.process.exactly import BATCHES, BODY, Reader, Servers
from tests.process.servers import HEAD
from tests.specs.exact import Flow, Line
from tests.specs.run import Stage

# Seconds: a member's session, and longer than that.
SESSION, FROZEN = 3.0, 4.5
SESSIONS = {"session.timeout.ms": 3_000, "heartbeat.interval.ms": 500}
MEMBERS: Mapping[str, Mapping[str, object]] = {
    "eager": SESSIONS,
    "cooperative": {**SESSIONS, "partition.assignment.strategy": "cooperative-sticky"},
    "consumer": {"group.protocol": "consumer"},
}
# What of that the broker says itself under the newer protocol.
BROKERS = {"consumer.session.timeout.ms": 3_000, "consumer.heartbeat.interval.ms": 500}
ROUNDS, RATE = 6, 600


class Members(Servers):
    """Servers whose app says nothing of sessions but what its protocol takes."""

    def __init__(self, line: Line, folder: Path, protocol: str, kind: str) -> None:
        super().__init__(line, folder, kind, {})
        if protocol == "consumer":
            configure_group(line.stage.bootstrap, line.group, BROKERS)
        kafka = {"bootstrap.servers": line.stage.bootstrap, **MEMBERS[protocol]}
        define = "async def" if "async" in kind else "def"
        body = BATCHES if "batch" in kind else BODY
        text = body.format(source=line.source, target=line.target, define=define, options="")
        source = f"{HEAD}app = App({line.group!r}, kafka={kafka!r}, drain_timeout=5.0)\n\n{text}"
        (folder / "app.py").write_text(source)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("protocol", "kind"),
    [("consumer", "def"), ("consumer", "async def"), ("consumer", "async batch"), ("cooperative", "async def")],
)
def test_kill_after_kill(kafka: Running, tmp_path: Path, protocol: str, kind: str) -> None:
    """Killed, or stopped for longer than its session, and so fenced: nothing is doubled, lost or out of order."""
    line = Line(Stage(kafka.bootstrap), 3)
    chance = random.Random(f"{protocol}, {kind}")
    began = monotonic()
    with Members(line, tmp_path, protocol, kind) as servers, Reader(line) as reader:
        for number in (0, 1):
            servers.start(number).event("server_started")
        with Flow(line, RATE) as flow:
            until(lambda: len(reader.times) > 100, 30)
            stalls = []
            for turn in range(ROUNDS):
                sleep(chance.uniform(0.3, 1.2))
                at, victim = monotonic(), servers.now[turn % 2]
                if turn == ROUNDS - 2:
                    victim.signal(SIGSTOP)
                    sleep(FROZEN)
                    victim.signal(SIGCONT)
                else:
                    victim.kill()
                    servers.start(turn % 2).event("server_started")
                # The next strike comes when what this one has stopped goes on again, or in the midst of it.
                if chance.random() < 0.7:
                    before = len(reader.times)
                    until(lambda more=before: len(reader.times) > more + RATE, 60)  # type: ignore[misc]  # this turn's
                stalls.append(reader.stall(at, monotonic()))
        counts = flow.counts()
        until(lambda: line.committed() == counts, 60)
        until(lambda: len(reader.times) == sum(counts), 30)
        told = {name: servers.happened(name) for name in ("transaction_aborted", "failed", "lost", "revoked")}
        for number in (0, 1):
            assert servers.now[number].stop() == 0, str(servers.now[number].heard)
    took = monotonic() - began
    print(f"{protocol}, {kind}: {sum(counts)} sent, {ROUNDS} strikes in {took:.0f} s; told: {told}")
    print(f"readers waited for {', '.join(f'{one:.1f}' for one in stalls)} s at most")
    line.once(*counts)
    assert told["failed"] == 0
    assert max(stalls) < SESSION + FROZEN + 10
