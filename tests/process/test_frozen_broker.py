"""A broker that stands still longer than sessions last, and wakes: each partition goes on soon, and nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from karafka.devbroker import Kafka
from tests.chaos.feeder import PARTITIONS
from tests.chaos.journal import Tail
from tests.chaos.ledger import Verdict
from tests.process.servers import Server
from tests.process.test_rebalance import PROTOCOLS, Flow

# Longer than the members' session (3 s) and than the broker's with its controller (2 s): a node that is its own
# controller fences itself as it wakes, and says for a moment that the cluster has no broker.
FROZEN = 20.0
# Wakings in one test: which of them finds the client asking in that moment is chance.
WAKINGS, SHORT = 5, 5.0
# How long after the broker is back each partition has something new performed, on a machine that is busy.
BOUND = 60.0
# Messages a second: what is sent while the broker is away must have room in the producer.
RATE = 200
# How long Kafka may take to start on such a machine.
PATIENCE = 180.0


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Kafka]:
    """A Kafka that this test may freeze."""
    kafka = Kafka(tmp_path / "kafka")
    kafka.start(patience=PATIENCE)
    try:
        yield kafka
    finally:
        kafka.stop()


def away(server: Server, tail: Tail, seconds: float, back: Callable[[], object]) -> float:
    """The broker has just gone, and comes `back` so much later; how long until each partition has something new."""
    with pytest.raises(TimeoutError):
        server.ended(timeout=seconds)
    tail.read()
    before = {partition: tail.top(partition) for partition in range(PARTITIONS)}
    back()
    began = time.monotonic()

    def new() -> bool:
        tail.read()
        return all(tail.top(partition) > top for partition, top in before.items())

    server.until(new, "something new performed of each partition", BOUND)
    return time.monotonic() - began


def complete(flow: Flow, verdict: Verdict, server: Server) -> None:
    """All was performed, for the first time in order, and is committed; what was not committed before came again."""
    print(verdict)
    for finding in ("lost", "uncommitted"):
        assert not verdict.findings[finding], f"{verdict}\n{server.heard}"
    for partition in range(PARTITIONS):
        firsts = list(dict.fromkeys(line.sequence for line in flow.tail.lines if line.partition == partition))
        assert firsts == sorted(firsts), f"partition {partition} out of order\n{server.heard}"


@pytest.mark.parametrize(("frozen", "wakings"), [(FROZEN, 1), (SHORT, WAKINGS)], ids=["long", "often"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_goes_on_when_its_broker_wakes(
    own: Kafka, tmp_path: Path, protocol: str, frozen: float, wakings: int
) -> None:
    flow = Flow(own.bootstrap, tmp_path, PROTOCOLS[protocol], RATE)
    with flow.consumer(0, "fast").served() as server:
        server.assigned(PARTITIONS)
        flow.feeder.start()
        for _ in range(wakings):
            flow.works(server, 0, 500)
            own.freeze()
            took = away(server, flow.tail, frozen, own.thaw)
            print(f"{protocol}: new messages {took:.2f} s after the broker woke")
        verdict = flow.verdict(server)

    complete(flow, verdict, server)


@pytest.mark.parametrize("gone", [5.0, 60.0])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_goes_on_when_its_broker_is_started_again(
    own: Kafka, tmp_path: Path, protocol: str, gone: float
) -> None:
    flow = Flow(own.bootstrap, tmp_path, PROTOCOLS[protocol], RATE)
    with flow.consumer(0, "fast").served() as server:
        server.assigned(PARTITIONS)
        flow.feeder.start()
        flow.works(server, 0, 500)
        own.kill()
        took = away(server, flow.tail, gone, lambda: own.start(patience=PATIENCE))
        print(f"{protocol}, {gone:g} s: new messages {took:.2f} s after the broker was back")
        verdict = flow.verdict(server)

    complete(flow, verdict, server)
