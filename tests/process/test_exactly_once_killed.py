"""Processes killed, stood still and started again, the broker too: each result is seen once, in order."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from time import monotonic, sleep

import pytest

from karafka.devbroker import Kafka
from tests.brokers import Running, until
from tests.process.exactly import SESSION, Reader, Servers, all_ended
from tests.specs.exact import Flow, Line
from tests.specs.run import Stage

# Longer than a member's session, in seconds.
FROZEN = 4.5
# How long the test waits, in seconds, and how long a transaction may be open: what a dead process left open
# is to be ended by who takes over its partition, not by Kafka when its time is over.
PATIENCE = 90
LONG = {"transaction.timeout.ms": 150_000}
ROUNDS = 7
RATE = 600


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("protocol", "kind"),
    [
        ("eager", "def"),
        ("cooperative", "batch"),
        ("cooperative", "async def"),
        ("consumer", "def"),
        ("consumer", "async def"),
        ("consumer", "async batch"),
    ],
)
def test_kill_after_kill_each_result_is_seen_once_and_in_order(
    kafka: Running, tmp_path: Path, protocol: str, kind: str
) -> None:
    """Killed, or stopped for longer than its session, and so fenced: nothing is doubled, lost or out of order, and
    readers of what is committed wait for about a rebalance.
    """
    line = Line(Stage(kafka.bootstrap), 3)
    chance = random.Random(f"{protocol}, {kind}")
    began = monotonic()
    strikes: list[float] = []
    with Servers(line, tmp_path, kind, protocol, LONG) as servers, Reader(line) as reader:
        for number in (0, 1):
            servers.start(number).event("server_started")
        with Flow(line, RATE) as flow:
            until(lambda: len(reader.times) > 100, PATIENCE)
            for turn in range(ROUNDS):
                sleep(chance.uniform(0.3, 1.5))
                victim = servers.now[turn % 2]
                strikes.append(monotonic())
                if turn % 4 == 3:
                    victim.signal(SIGSTOP)
                    sleep(FROZEN)
                    victim.signal(SIGCONT)
                else:
                    victim.kill()
                    servers.start(turn % 2).event("server_started")
                # The next strike comes when what this one has stopped goes on again, or in the midst of it.
                if chance.random() < 0.7:
                    before = len(reader.times)
                    until(lambda more=before: len(reader.times) > more + RATE, PATIENCE)  # type: ignore[misc]  # this turn's
        counts = flow.counts()
        until(lambda: line.committed() == counts, PATIENCE)
        until(lambda: len(reader.times) == sum(counts), PATIENCE)
        told = {name: servers.happened(name) for name in ("transaction_aborted", "failed", "lost", "revoked")}
        for number in (0, 1):
            assert servers.now[number].stop() == 0, str(servers.now[number].heard)
    took, waited = monotonic() - began, reader.waited(strikes)
    print(f"{protocol}, {kind}: {sum(counts)} sent, {ROUNDS} strikes in {took:.0f} s; told: {told}")
    print(f"readers waited for {', '.join(f'{one:.1f}' for one in waited)} s at most")
    line.once(*counts)
    assert told["failed"] == 0
    assert max(waited) < SESSION + FROZEN + 10
    assert took < 120


@pytest.mark.timeout(400)
def test_what_a_dead_process_left_open_is_aborted_when_its_partition_is_taken_over(
    kafka: Running, tmp_path: Path
) -> None:
    """One process alone, killed and started again: readers go on as soon as it has its partitions again."""
    line = Line(Stage(kafka.bootstrap), 2)
    with Servers(line, tmp_path, "def", kafka=LONG) as servers, Reader(line) as reader:
        with Flow(line, RATE) as flow:
            servers.start(0)
            until(lambda: len(reader.times) > 100, PATIENCE)
            for _ in range(3):
                servers.now[0].kill()
                at = monotonic()
                server = servers.start(0)
                server.assigned(2)
                taken = monotonic()
                before = len(reader.times)
                until(lambda more=before: len(reader.times) > more, PATIENCE)  # type: ignore[misc]  # this turn's
                seen = monotonic()
                print(f"killed: partitions after {taken - at:.1f} s, the first result {seen - taken:.2f} s later")
                assert seen - taken < 5
        counts = flow.counts()
        until(lambda: line.committed() == counts, PATIENCE)
        assert servers.now[0].stop() == 0, str(servers.now[0].heard)
    line.once(*counts)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("strike", "kind"), [(Kafka.stop, "def"), (Kafka.kill, "async batch")])
def test_the_broker_away_and_back_doubles_nothing(tmp_path: Path, strike: Callable[[Kafka], None], kind: str) -> None:
    """Whatever was under way: each result is seen once; no message is blamed for it.

    What becomes of a transaction whose end Kafka itself has not written is out of our hands: then it is begun anew.
    """
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        if _away_and_back(folder, strike, kind):
            return
        print("Kafka has not written the end of a transaction: begun anew")
    pytest.fail("Kafka never wrote all ends of transactions")


def _away_and_back(folder: Path, strike: Callable[[Kafka], None], kind: str) -> bool:
    """Whether it could be seen: Kafka has written all ends."""
    with Kafka(folder / "kafka") as own:
        line = Line(Stage(own.bootstrap), 3)
        with Servers(line, folder, kind) as servers, Reader(line) as reader:
            for number in (0, 1):
                servers.start(number).event("server_started")
            with Flow(line, RATE) as flow:
                until(lambda: len(reader.times) > 100, PATIENCE)
                for turn in range(2):
                    sleep(1.0)
                    # Open ones are to be struck. One that is just ending is Kafka's to bring to its end.
                    for number in (0, 1):
                        servers.now[number].signal(SIGSTOP)
                    sleep(0.2)
                    strike(own)
                    for number in (0, 1):
                        servers.now[number].signal(SIGCONT)
                    sleep(0.2 + turn)
                    own.start()
                    at, before = monotonic(), len(reader.times)
                    until(lambda more=before: not all_ended(own) or len(reader.times) > more + RATE, 90)  # type: ignore[misc]  # this turn's
                    if not all_ended(own):
                        return False
                    print(f"{monotonic() - at:.1f} s after the broker was back {RATE} more results were seen")
            counts = flow.counts()
            try:
                until(lambda: line.committed() == counts, 60)
            except TimeoutError:
                heard = "\n".join(str(servers.now[number].heard) for number in (0, 1))
                pytest.fail(f"{line.committed()} is committed, of {counts}\n{heard}")
            told = {name: servers.happened(name) for name in ("transaction_aborted", "failed", "lost", "buried")}
            print(f"{kind}: {sum(counts)} sent; told: {told}")
            for number in (0, 1):
                assert servers.now[number].stop() == 0, str(servers.now[number].heard)
        line.once(*counts)
        assert told["failed"] == 0
    return True
