"""Servers that come and go share a group's partitions: nothing is lost, and each partition stays in order."""

from __future__ import annotations

from threading import Event, Lock

import pytest

from karafka import App, Controller
from karafka.events import Assigned, CommitFailed, Revoked
from tests.brokers import new_group
from tests.specs.groups import PROTOCOLS
from tests.specs.run import Notes, Stage, running, until


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_is_lost_and_order_stays(stage: Stage, protocol: str) -> None:
    """A second joins in the middle of the work, then the first leaves: all is performed once, in order."""
    topic, group, count = stage.topic(4), new_group(), 600
    seen: Notes[tuple[int, int]] = Notes()
    for partition in range(4):
        stage.send(topic, map(str, range(count)), partition=partition)

    class Keep(Controller[int]):
        def perform(self) -> None:
            Event().wait(0.01)
            seen.add((self.message.partition, self.params))

    def app() -> App:
        made = stage.app(client_id=group, kafka=PROTOCOLS[protocol], concurrency=4)
        made.topic(topic)(Keep)
        return made

    # Between its two rounds a cooperative rebalance refuses commits for what stays; the next one carries them.
    refused = (CommitFailed,) if protocol == "cooperative" else ()
    with running(app(), allow=refused) as older:
        until(lambda: len(seen) > 100)
        with running(app(), allow=refused) as newer:
            until(lambda: any(event.starts for event in newer.told(Assigned)), 60)
            assert older.told(Revoked)
            older.server.stop()
            until(lambda: len(seen) >= 4 * count, 60)
        failures = [*older.told(CommitFailed), *newer.told(CommitFailed)]
    assert all("ILLEGAL_GENERATION" in event.error or "REBALANCE" in event.error for event in failures)

    for partition in range(4):
        assert [number for place, number in seen if place == partition] == list(range(count))
    assert stage.committed(group, topic, 4) == dict.fromkeys(range(4), count)


def test_what_runs_at_a_revocation_is_finished_and_not_repeated(stage: Stage) -> None:
    """A partition is given up when the message in hand has ended; the next owner begins behind it."""
    topic, group = stage.topic(2), new_group()
    seen: Notes[tuple[int, int]] = Notes()
    held, lock = Event(), Lock()
    for partition in (0, 1):
        stage.send(topic, map(str, range(5)), partition=partition)

    class Slow(Controller[int]):
        def perform(self) -> None:
            if self.params == 2:
                held.wait(2)
            with lock:
                seen.add((self.message.partition, self.params))

    def app() -> App:
        made = stage.app(client_id=group)
        made.topic(topic)(Slow)
        return made

    with running(app()):
        until(lambda: (0, 1) in seen and (1, 1) in seen)
        with running(app()) as newer:
            until(lambda: len(seen) == 10, 60)
            until(lambda: any(event.starts for event in newer.told(Assigned)), 60)
    for partition in (0, 1):
        assert [number for place, number in seen if place == partition] == [0, 1, 2, 3, 4]
