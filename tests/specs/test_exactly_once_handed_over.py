"""A partition that goes from member to member: results are seen once, in order, whoever comes too late with his."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from threading import Event
from typing import Any

import pytest
from confluent_kafka import Producer as Client

from karafka import App
from karafka.controllers import AnyController
from karafka.events import (
    Assigned,
    ClientTroubled,
    CommitFailed,
    DeliveryFailed,
    Overran,
    ProducerReplaced,
    TransactionAborted,
    TransactionCommitted,
)
from karafka.sender import ConfluentTransactor
from tests.brokers import configure_group
from tests.brokers import until as until_true
from tests.specs.exact import Flow, Line, Single, sender, serving
from tests.specs.groups import HEARTBEAT, PROTOCOLS
from tests.specs.run import Stage, until

# What a hand-over may be told of: a commit that met it is refused, and the work done again by whoever has it then.
MEANWHILE = (TransactionAborted, DeliveryFailed, ProducerReplaced, CommitFailed, ClientTroubled)


def settings(line: Line, protocol: str) -> Mapping[str, str | int]:
    """Members of the line's group under that protocol, that soon notice who comes and goes."""
    if protocol == "consumer":
        own = {"consumer.heartbeat.interval.ms": HEARTBEAT, "consumer.session.timeout.ms": 6_000}
        configure_group(line.stage.bootstrap, line.group, own)
        return PROTOCOLS[protocol]
    return {**PROTOCOLS[protocol], "heartbeat.interval.ms": HEARTBEAT, "session.timeout.ms": 6_000}


@pytest.mark.parametrize("kind", ["def", "async def", "batch"])
def test_members_that_come_and_go_repeat_and_lose_nothing(stage: Stage, protocol: str, kind: str) -> None:
    """While messages flow."""
    line = Line(stage, 4)
    kafka = settings(line, protocol)

    def member() -> App:
        return line.app(sender(line, kind), kafka=kafka)

    with Flow(line) as flow, serving(member(), allow=MEANWHILE) as first:
        until(lambda: len(first.of(TransactionCommitted)) > 2)
        for _ in range(3):
            with serving(member(), allow=MEANWHILE) as second:
                until(lambda told=second: len(told.of(TransactionCommitted)) > 5)  # type: ignore[misc]  # this one
            before = len(first.of(TransactionCommitted))
            until(lambda more=before: len(first.of(TransactionCommitted)) > more + 5)  # type: ignore[misc]  # this one
        flow.__exit__()
        counts = flow.counts()
        line.done(*counts)
        aborted = len(first.of(TransactionAborted))
        print(f"{protocol}, {kind}: {sum(counts)} sent, {aborted} transactions of the first were aborted")
    line.once(*counts)


class Gate:
    """Where one member waits: with a message in hand, or right before the commit of its transaction."""

    def __init__(self) -> None:
        self.reached, self.open = Event(), Event()

    def wait(self) -> None:
        self.reached.set()
        assert self.open.wait(60)


def late(line: Line, gate: Gate | None) -> type[AnyController]:
    """Waits at the gate with the last message of its partition in hand."""

    class Late(Single):
        target = line.target

        def perform(self) -> None:
            self.pass_on()
            if self.params == 9 and gate is not None:
                gate.wait()

    return Late


def test_who_is_late_with_a_perform_has_sent_nothing(stage: Stage, protocol: str) -> None:
    """His partition is another's by then, who performs it: those results alone are seen."""
    line, gate = Line(stage, 2), Gate()
    kafka = settings(line, protocol)
    for partition in (0, 1):
        line.send(range(10), partition)
    quick = {"drain_timeout": 0.5, "concurrency": 4}
    with ExitStack() as stack:
        stack.callback(gate.open.set)
        first = stack.enter_context(
            serving(line.app(late(line, gate), kafka=kafka, settings=quick), allow=(*MEANWHILE, Overran))
        )
        assert gate.reached.wait(30)
        second = stack.enter_context(serving(line.app(late(line, None), kafka=kafka), allow=MEANWHILE))
        until(lambda: bool(first.of(Overran)), 60)
        until(lambda: any(event.starts for event in second.of(Assigned)), 60)
        theirs = {partition for event in second.of(Assigned) for _, partition in event.starts}
        until(lambda: bool(second.of(TransactionCommitted)))
        gate.open.set()
        line.done(10, 10)
        print(f"{protocol}: partitions {theirs} went to the second")
        for partition in (0, 1):
            line.send(range(10, 20), partition)
        line.done(20, 20)
    line.once(20, 20)


@pytest.mark.parametrize("step", ["begin", "add_offsets", "commit"])
def test_who_is_late_with_a_transaction_commits_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """However far it had come when another took the partition over."""
    line, gate, firsts = Line(stage, 2), Gate(), set[object]()
    took = getattr(ConfluentTransactor, step)
    alone = True

    def slow(transactor: ConfluentTransactor, *arguments: Any) -> None:
        if alone:
            firsts.add(transactor)
        if transactor in firsts:
            gate.wait()
        took(transactor, *arguments)

    monkeypatch.setattr(ConfluentTransactor, step, slow)
    kafka, quick = settings(line, "eager"), {"drain_timeout": 0.5, "concurrency": 4}
    for partition in (0, 1):
        line.send(range(10), partition)
    with ExitStack() as stack:
        stack.callback(gate.open.set)
        first = stack.enter_context(
            serving(line.app(sender(line), kafka=kafka, settings=quick), allow=(*MEANWHILE, Overran))
        )
        until_true(lambda: len(firsts) == 2)
        alone = False
        second = stack.enter_context(serving(line.app(sender(line), kafka=kafka), allow=MEANWHILE))
        until(lambda: bool(second.of(TransactionCommitted)), 60)
        assert first.of(Overran)
        (theirs,) = {partition for event in second.of(Assigned) for _, partition in event.starts}
        assert line.committed()[theirs] == 10
        gate.open.set()
        line.done(10, 10)
        for partition in (0, 1):
            line.send(range(10, 20), partition)
        line.done(20, 20)
    line.once(20, 20)


def test_an_id_that_somebody_took_over_once_does_not_stop_its_owner(stage: Stage) -> None:
    """Such as a former owner that is late with it: who has the partition goes on, and no message is blamed for it."""
    line = Line(stage)
    kafka = settings(line, "eager")
    with serving(line.app(sender(line), kafka=kafka), allow=MEANWHILE) as heard:
        line.send(range(10))
        line.done(10)
        (taken,) = {event.transactional_id for event in heard.of(TransactionCommitted)}
        late_one = Client({"bootstrap.servers": stage.bootstrap, "transactional.id": taken})
        late_one.init_transactions(10)
        line.send(range(10, 20))
        line.done(20, timeout=20)
    line.once(20)


def test_groups_and_topics_whose_names_join_alike_do_not_meet(stage: Stage) -> None:
    """Group `a` with the topic `b.c`, and group `a.b` with the topic `c`: each goes on."""
    one, other = Line(stage), Line(stage)
    last = stage.name_of_topic()
    one.source, other.source = f"middle.{last}", last
    other.group = f"{one.group}.middle"
    for line in (one, other):
        stage.create(line.source)
        line.send(range(10))
    with serving(one.app(sender(one)), allow=MEANWHILE), serving(other.app(sender(other)), allow=MEANWHILE):
        for line in (one, other):
            line.done(10)
        for line in (one, other):
            line.send(range(10, 20))
        for line in (one, other):
            line.done(20, timeout=20)
    one.once(20)
    other.once(20)
