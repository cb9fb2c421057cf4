"""Two servers share the partitions while messages flow: all is performed, in order, and a handover repeats nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.brokers import Running, new_group, new_topic
from tests.chaos.feeder import PARTITIONS, Feeder
from tests.chaos.journal import Tail
from tests.chaos.ledger import Bounds, Life, Strike, Verdict, judge
from tests.chaos.members import Consumer
from tests.process.servers import DEADLINE, Server, committed, ends

SESSIONS = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500}
PROTOCOLS: Mapping[str, Mapping[str, str | int]] = {
    "eager": SESSIONS,
    "cooperative": {**SESSIONS, "partition.assignment.strategy": "cooperative-sticky"},
    "kip848": {"group.protocol": "consumer"},
}


class Flow:
    """Messages that flow to all partitions of a topic, and the ledger of what servers make of them."""

    def __init__(self, bootstrap: str, folder: Path, kafka: Mapping[str, str | int], rate: int = 1_000) -> None:
        self.bootstrap, self.kafka = bootstrap, kafka
        self.topic, self.group = new_topic(bootstrap, PARTITIONS), new_group()
        self.ledger = folder / "ledger"
        self.tail = Tail(self.ledger)
        self.lives: list[Life] = []
        self.strikes: list[Strike] = []
        self.feeder = Feeder(bootstrap, self.topic, rate)

    def consumer(self, life: int, variant: str) -> Consumer:
        return Consumer(
            bootstrap=self.bootstrap,
            topic=self.topic,
            group=self.group,
            journal=str(self.ledger),
            life=life,
            kafka=self.kafka,
            variant=variant,
        )

    def works(self, server: Server, life: int, messages: int = 200, timeout: float = DEADLINE) -> None:
        """Wait until that life has performed so many messages more."""

        def performed() -> int:
            self.tail.read()
            return sum(line.life == life for line in self.tail.lines)

        wanted = performed() + messages
        server.until(lambda: performed() >= wanted, f"{messages} messages more performed by life {life}", timeout)

    def complete(self, sent: Mapping[int, Sequence[int]]) -> None:
        """All that was sent was performed, repeats apart in order, and is committed."""
        self.tail.read()
        for partition, offsets in sent.items():
            firsts = dict.fromkeys(line.sequence for line in self.tail.lines if line.partition == partition)
            assert list(firsts) == list(range(len(offsets)))
        assert committed(self.bootstrap, self.group, self.topic, PARTITIONS) == [len(sent[one]) for one in sorted(sent)]
        print(f"{len(self.tail.lines)} performed of {sum(map(len, sent.values()))} sent")

    def ended(self, life: int, *, clean: bool) -> None:
        self.lives.append(Life(life, "", time.time(), clean))
        if not clean:
            self.strikes.append(Strike("kill9", "life", time.time(), time.time(), life))

    def verdict(self, server: Server) -> Verdict:
        """Stop the flow, let `server`, life 0, finish it and stop it."""
        sent = self.feeder.stop()
        server.until(lambda: self.tail.reached(sent), "the last message performed")
        assert server.stop() == 0, str(server.heard)
        self.ended(0, clean=True)
        self.tail.read()
        return judge(
            sent=sent,
            entries=self.tail.entries,
            strikes=self.strikes,
            lives=self.lives,
            committed=dict(enumerate(committed(self.bootstrap, self.group, self.topic, PARTITIONS))),
            ends=dict(enumerate(ends(self.bootstrap, self.topic, PARTITIONS))),
            bounds=Bounds(),
        )


@pytest.mark.parametrize(
    ("protocol", "variant"),
    [("eager", "fast"), ("eager", "async"), ("eager", "batch"), ("cooperative", "fast"), ("kip848", "fast")],
)
def test_a_handover_repeats_nothing(kafka: Running, tmp_path: Path, protocol: str, variant: str) -> None:
    flow = Flow(kafka.bootstrap, tmp_path, PROTOCOLS[protocol])
    with ExitStack() as stack:
        first = stack.enter_context(flow.consumer(0, variant).served())
        first.assigned(PARTITIONS)
        flow.feeder.start()
        flow.works(first, 0)
        second = stack.enter_context(flow.consumer(1, variant).served())
        second.event("server_started")
        began = time.monotonic()
        second.assigned(1)
        print(f"{protocol}: the second got partitions {time.monotonic() - began:.2f} s after it had started")
        flow.works(second, 1)
        flow.works(first, 0)
        began = time.monotonic()
        assert second.stop() == 0, str(second.heard)
        flow.ended(1, clean=True)
        print(f"{protocol}: it left within {time.monotonic() - began:.2f} s")
        flow.works(first, 0)
        verdict = flow.verdict(first)

    print(verdict)
    assert verdict.sound, f"{verdict}\nfirst {first.heard}\nsecond {second.heard}"
    assert verdict.duplicates == 0


def test_the_partitions_of_a_killed_server_go_on_in_the_other(kafka: Running, tmp_path: Path) -> None:
    flow = Flow(kafka.bootstrap, tmp_path, SESSIONS)
    with ExitStack() as stack:
        first = stack.enter_context(flow.consumer(0, "fast").served())
        first.assigned(PARTITIONS)
        second = stack.enter_context(flow.consumer(1, "fast").served())
        flow.feeder.start()
        second.assigned(1)
        flow.works(second, 1, 1_000)
        second.kill()
        flow.ended(1, clean=False)
        taken = len(first.happened("assigned"))
        began = time.monotonic()
        first.until(lambda: len(first.happened("assigned")) > taken, "the partitions of the dead")
        print(f"taken over {time.monotonic() - began:.2f} s after the kill")
        verdict = flow.verdict(first)

    print(verdict)
    assert verdict.sound, f"{verdict}\nfirst {first.heard}"
