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
from tests.process.exactly import Reader, Servers, all_ended
from tests.specs.exact import Flow, Line
from tests.specs.run import Stage

# Seconds; the members' session, and longer than that.
SESSION, FROZEN = 3.0, 4.5
MEMBERS: dict[str, dict[str, object]] = {
    "eager": {},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky"},
}
ROUNDS = 8
RATE = 600


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("protocol", "kind"), [("eager", "def"), ("cooperative", "batch")])
def test_kill_after_kill_each_result_is_seen_once_and_in_order(
    kafka: Running, tmp_path: Path, protocol: str, kind: str
) -> None:
    """Readers of what is committed wait for about a rebalance, not for the time a transaction may take."""
    line = Line(Stage(kafka.bootstrap), 3)
    chance = random.Random(7)
    began = monotonic()
    with Servers(line, tmp_path, kind, MEMBERS[protocol]) as servers, Reader(line) as reader:
        for number in (0, 1):
            servers.start(number).event("server_started")
        with Flow(line, RATE) as flow:
            until(lambda: len(reader.times) > 100, 30)
            stalls = []
            for turn in range(ROUNDS):
                sleep(chance.uniform(0.5, 2.0))
                at, victim = monotonic(), servers.now[turn % 2]
                if turn % 4 == 3:
                    victim.signal(SIGSTOP)
                    sleep(FROZEN)
                    victim.signal(SIGCONT)
                    what = f"stood still for {FROZEN:g} s"
                else:
                    victim.kill()
                    servers.start(turn % 2).event("server_started")
                    what = "killed"
                # The next strike comes when what this one has stopped goes on again, or in the midst of it.
                if chance.random() < 0.7:
                    before = len(reader.times)
                    until(lambda more=before: len(reader.times) > more + RATE, 60)  # type: ignore[misc]  # this turn's
                stalls.append((what, reader.stall(at, monotonic())))
        counts = flow.counts()
        until(lambda: line.committed() == counts, 60)
        until(lambda: len(reader.times) == sum(counts), 30)
        told = {name: servers.happened(name) for name in ("transaction_aborted", "failed", "lost", "revoked")}
        for number in (0, 1):
            assert servers.now[number].stop() == 0, str(servers.now[number].heard)
    took = monotonic() - began
    for what, stall in stalls:
        print(f"{what}: readers waited for {stall:.1f} s at most")
    print(f"{protocol}, {kind}: {sum(counts)} sent, {ROUNDS} strikes in {took:.0f} s; told: {told}")
    line.once(*counts)
    assert told["failed"] == 0
    assert max(stall for _, stall in stalls) < SESSION + FROZEN + 10
    assert took < 120


@pytest.mark.timeout(240)
def test_what_a_dead_process_left_open_is_aborted_when_its_partition_is_taken_over(
    kafka: Running, tmp_path: Path
) -> None:
    """One process alone, killed and started again: readers go on as soon as it has its partitions again."""
    line = Line(Stage(kafka.bootstrap), 2)
    with Servers(line, tmp_path, "def", {}) as servers, Reader(line) as reader:
        with Flow(line, RATE) as flow:
            servers.start(0)
            until(lambda: len(reader.times) > 100, 30)
            for _ in range(3):
                servers.now[0].kill()
                at = monotonic()
                server = servers.start(0)
                server.assigned(2)
                taken = monotonic()
                before = len(reader.times)
                until(lambda more=before: len(reader.times) > more, 30)  # type: ignore[misc]  # this turn's
                seen = monotonic()
                print(f"killed: partitions after {taken - at:.1f} s, the first result {seen - taken:.2f} s later")
                assert seen - taken < 5
        counts = flow.counts()
        until(lambda: line.committed() == counts, 60)
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
        with Servers(line, folder, kind, {}) as servers, Reader(line) as reader:
            for number in (0, 1):
                servers.start(number).event("server_started")
            with Flow(line, RATE) as flow:
                until(lambda: len(reader.times) > 100, 30)
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
