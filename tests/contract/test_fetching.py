"""What fetching promises: when messages come, in what order, and that none is lost on the way."""

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise
from threading import Event, Thread
from types import FrameType
from typing import Any

import pytest

from karafka import confluent
from karafka.messages import Place
from tests.contract.member import Broker, Member


def test_fetch_waits_only_for_the_first_message(broker: Broker) -> None:
    """At low rates a message is not held back until others have come."""
    topic = broker.topic()
    broker.send(topic, ["first"])
    with Member(broker, topic) as member:
        member.until(lambda: member.count() == 1)
        for _ in range(3):
            broker.send(topic, ["more"])
            began = time.monotonic()
            while not member.client.fetch(500, 5.0):
                pass
            assert time.monotonic() - began < 0.5


def test_the_bare_client_waits_for_all_or_its_whole_time(broker: Broker) -> None:
    """Why `fetch` is as it is: `consume(n, t)` with fewer than n messages takes t."""
    topic = broker.topic()
    broker.send(topic, ["one", "two"])
    client = broker.assigned(topic)
    assert client.poll(10) is not None
    began = time.monotonic()
    assert len(client.consume(500, 1.0)) == 1
    assert time.monotonic() - began >= 0.95
    client.close()


def test_messages_come_by_partition_in_order(broker: Broker) -> None:
    topic = broker.topic(4)
    for partition in range(4):
        broker.send(topic, map(str, range(1_000)), partition)
    with Member(broker, topic) as member:
        member.until(lambda: member.count() == 4_000)
        for partition in range(4):
            assert member.offsets(Place(topic, partition)) == list(range(1_000))


def test_several_topics_are_told_apart(broker: Broker) -> None:
    topics = [broker.topic() for _ in range(3)]
    for topic in topics:
        broker.send(topic, [topic] * 100)
    with Member(broker, *topics) as member:
        member.until(lambda: member.count() == 300)
        for topic in topics:
            records = member.received[Place(topic, 0)]
            assert {record.value() for record in records} == {topic.encode()}


def test_pause_stops_at_once_and_resume_loses_nothing(broker: Broker) -> None:
    """What was fetched ahead is dropped, and comes again after `resume`: no gap, nothing twice."""
    topic = broker.topic()
    place = Place(topic, 0)
    broker.send(topic, map(str, range(5_000)))
    with Member(broker, topic) as member:
        for _ in range(5):
            seen = member.count()
            member.until(lambda seen=seen: member.count() > seen)  # type: ignore[misc]
            member.client.pause([place])
            held = member.count()
            for _ in range(3):
                member.turn(0.05, limit=50)
            assert member.count() == held, "a paused partition gave a message"
            member.client.resume([place])
        member.until(lambda: member.count() == 5_000)
        assert member.offsets(place) == list(range(5_000))


def test_a_neighbour_flows_while_one_is_paused(broker: Broker) -> None:
    topic = broker.topic(2)
    for partition in (0, 1):
        broker.send(topic, map(str, range(3_000)), partition)
    slow, quick = Place(topic, 0), Place(topic, 1)
    with Member(broker, topic) as member:
        member.until(lambda: {slow, quick} <= member.owned)
        member.client.pause([slow])
        held = len(member.offsets(slow))
        member.until(lambda: len(member.offsets(quick)) == 3_000)
        assert len(member.offsets(slow)) == held
        member.client.resume([slow])
        member.until(lambda: len(member.offsets(slow)) == 3_000)
        assert member.offsets(slow) == list(range(3_000))


@pytest.mark.parametrize("neighbours", [0, 1])
def test_resuming_is_quick(real: Broker, neighbours: int) -> None:
    """Where all of a broker's partitions were paused the client looks once a second whether to ask it again; beside an
    idle one it waits for the answer that is due: `fetch.wait.max.ms`, 500 by default, 50 with us.
    """
    topic = real.topic(1 + neighbours)
    real.send(topic, map(str, range(20_000)))
    place = Place(topic, 0)
    with Member(real, topic) as member:
        member.until(lambda: member.count() > 0)
        took = []
        for _ in range(9):
            member.client.pause([place])
            member.turn(0.15)
            began, seen = time.monotonic(), member.count()
            member.client.resume([place])
            member.until(lambda seen=seen: member.count() > seen)  # type: ignore[misc]
            took.append(time.monotonic() - began)
    assert sorted(took)[4] < 0.2, took


def test_seek_gives_again_what_lies_behind(broker: Broker) -> None:
    topic = broker.topic()
    place = Place(topic, 0)
    broker.send(topic, map(str, range(1_000)))
    with Member(broker, topic) as member:
        member.until(lambda: member.count() == 1_000)
        member.received.clear()
        member.client.seek({place: 300})
        member.until(lambda: member.count() == 700)
        assert member.offsets(place) == list(range(300, 1_000))


def test_seek_drops_what_was_fetched_ahead(broker: Broker) -> None:
    """In the middle of reading: the next message is the one sought, whatever the client's queue held."""
    topic = broker.topic()
    place = Place(topic, 0)
    broker.send(topic, map(str, range(5_000)))
    with Member(broker, topic) as member:
        member.until(lambda: member.count() >= 100)
        for to in (4_000, 10, 2_500):
            member.received.clear()
            member.client.seek({place: to})
            member.until(lambda: member.count() > 0)
            assert member.offsets(place)[0] == to


def test_position_is_behind_the_last_message_given(broker: Broker) -> None:
    topic = broker.topic()
    place = Place(topic, 0)
    broker.send(topic, map(str, range(10)))
    with Member(broker, topic) as member:
        member.until(lambda: place in member.owned)
        member.until(lambda: member.count() == 10)
        assert member.client.position([place]) == {place: 10}


class Interrupting:
    """SIGINT to this process again and again, and which of them were raised inside `fetch`."""

    def __init__(self, times: int) -> None:
        self.inside = 0
        self._times = times
        self._thread = Thread(target=self._send)
        self._over = Event()

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    def start(self) -> None:
        self._before = signal.signal(signal.SIGINT, self._heard)
        self._thread.start()

    def stop(self) -> None:
        self._thread.join()
        signal.signal(signal.SIGINT, self._before)

    def _send(self) -> None:
        for _ in range(self._times):
            self._over.wait(0.013)
            os.kill(os.getpid(), signal.SIGINT)

    def _heard(self, _number: int, frame: FrameType | None) -> None:
        within = frame
        while within is not None:
            if within.f_code is confluent.ConfluentConsumer.fetch.__code__:
                self.inside += 1
                raise KeyboardInterrupt
            within = within.f_back
        # Elsewhere it would lose what this test is holding, which proves nothing about the port.


@pytest.mark.usefixtures("uncollected")
def test_what_an_interrupted_call_took_comes_again_after_seeking(real: Broker) -> None:
    """KeyboardInterrupt on the consuming thread: `slipped` says so, and after `seek` no offset is missing."""
    topic, total = real.topic(), 200_000
    place = Place(topic, 0)
    real.send(topic, [b"x" * 70] * total)
    signals = Interrupting(20)
    seen: list[int] = []
    gaps: list[range] = []
    with Member(real, topic) as member:
        member.until(lambda: member.owned)
        seen += member.offsets(place)
        signals.start()
        try:
            deadline = time.monotonic() + 60
            while not seen or seen[-1] < total - 1:
                assert time.monotonic() < deadline, f"stands still at {len(seen)}"
                try:
                    for _, records in member.client.fetch(500, 0.1):
                        seen += [record.offset() or 0 for record in records]
                except KeyboardInterrupt:
                    pass
                if member.client.slipped():
                    member.client.seek({place: seen[-1] + 1 if seen else 0})
                if seen and seen[-1] > total // 2 and not signals.over:
                    gaps += gaps_of(seen)
                    member.client.seek({place: 0})  # once more from the start, as long as signals come
                    seen.clear()
        finally:
            signals.stop()
    assert signals.inside > 5, "too few signals met a call"
    gaps += gaps_of(seen)
    assert not gaps, f"{signals.inside} calls were interrupted, and these offsets never came: {gaps}"


def test_an_interrupt_after_the_client_gave_its_messages_is_said_too(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever in `fetch` it strikes: what was taken is not handed on, so `slipped` has to say it."""
    topic = broker.topic()
    broker.send(topic, ["x"] * 10)

    def struck(_message: object) -> int:
        raise KeyboardInterrupt

    with Member(broker, topic) as member:
        member.until(lambda: member.count() == 10)
        member.received.clear()
        member.client.seek({Place(topic, 0): 0})
        monkeypatch.setattr(confluent, "_partition", struck)
        with pytest.raises(KeyboardInterrupt):
            member.until(lambda: False)
        monkeypatch.undo()
        assert member.client.slipped(), "ten messages are gone, and nobody knows"
        member.client.seek({Place(topic, 0): 0})
        member.until(lambda: member.count() == 10)


def gaps_of(seen: list[int]) -> list[range]:
    return [range(before + 1, after) for before, after in pairwise(seen) if after != before + 1]


def test_our_fetch_defaults_can_be_changed_and_what_promises_stand_on_cannot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[dict[str, Any]] = []

    def keep(settings: dict[str, Any], **_: object) -> None:
        made.append(settings)

    monkeypatch.setattr(confluent, "_Consumer", keep)
    confluent.ConfluentConsumer({"bootstrap.servers": "x"}, group="g", queue=8 * 1024 * 1024)
    confluent.ConfluentConsumer(
        {"fetch.wait.max.ms": 7, "fetch.queue.backoff.ms": 3, "queued.max.messages.kbytes": 2_000},
        group="g",
        queue=8 * 1024 * 1024,
    )
    ours, theirs = made
    assert ours["fetch.wait.max.ms"] <= 100
    assert ours["fetch.queue.backoff.ms"] == 10
    assert ours["queued.max.messages.kbytes"] == 8 * 1024
    assert (theirs["fetch.wait.max.ms"], theirs["fetch.queue.backoff.ms"]) == (7, 3)
    assert theirs["queued.max.messages.kbytes"] == 2_000
    for settings in made:
        assert settings["enable.auto.commit"] is False
        assert settings["enable.auto.offset.store"] is False
        assert settings["auto.offset.reset"] == "error"
        assert settings["group.id"] == "g"
