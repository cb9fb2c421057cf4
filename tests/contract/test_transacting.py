"""What the client does in each step of a transaction, and what can be done where a step does not succeed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest

from karafka.client import Kept, Refused, Remedy, Unsettled
from karafka.confluent import ConfluentTopics
from karafka.delivery import Failure, Fault
from karafka.errors import BrokerError
from karafka.letters import Letter
from karafka.messages import Place
from karafka.sender import ConfluentTransactor
from tests.brokers import configure_group, new_group, until
from tests.contract.member import PROTOCOLS, Beside, Broker, Member, named
from tests.specs import visible

TIMEOUT = 10.0
# Nothing that compression makes small.
LARGE = Random(1).randbytes(10_000)


class Sending:
    """A transactor driven by hand, and how its messages ended: offsets, or failures."""

    def __init__(self, broker: Broker, name: str | None = None, **kafka: Any) -> None:
        settings = {one.replace("_", "."): value for one, value in kafka.items()}
        self.name = name or new_group()
        self.transactor = ConfluentTransactor(
            {"bootstrap.servers": broker.bootstrap, "transactional.id": self.name, **settings}
        )
        self.ended: list[int | Failure] = []

    def begun(self) -> None:
        """With the id taken over, in a first transaction."""
        self.transactor.ready(TIMEOUT)
        self.transactor.begin()

    def send(self, topic: str, payload: str | bytes = "x", partition: int = 0) -> None:
        self.transactor.send(Letter(topic, payload, None, None, partition), self._end)

    def _end(self, error: Any, receipt: Any) -> None:
        failure = None if error is None else self.transactor.judge(error)
        self.ended.append(failure if failure is not None else receipt.offset())

    def confirmed(self) -> list[int | Failure]:
        """How all that was sent has ended."""
        by = time.monotonic() + TIMEOUT
        while self.transactor.waiting():
            assert time.monotonic() < by, "not confirmed"
            self.transactor.hasten(0.1)
        return self.ended

    def news(self) -> list[str]:
        """What the client has to say of itself."""
        self.transactor.serve(0.0)
        return [one.code for one in self.transactor.news()]


def unsettled(step: Callable[[], object]) -> Unsettled:
    with pytest.raises(Unsettled) as raised:
        step()
    return raised.value


@contextmanager
def sending(broker: Broker, name: str | None = None, **kafka: Any) -> Iterator[Sending]:
    made = Sending(broker, name, **kafka)
    yield made
    made.transactor.close()


# ── the steps ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_after_the_other(real: Broker) -> None:
    """What is confirmed before the commit is seen after it; what is aborted is not."""
    topic = real.topic()
    with sending(real) as one:
        one.begun()
        one.send(topic, "0")
        assert one.confirmed() == [0]
        assert visible.read(real.bootstrap, topic) == []
        one.transactor.commit(TIMEOUT)
        one.transactor.begin()
        one.send(topic, "1")
        one.confirmed()
        one.transactor.abort(TIMEOUT)
        one.transactor.begin()
        one.send(topic, "2")
        one.transactor.commit(TIMEOUT)  # it waits for what is on its way
        assert one.confirmed() == [0, 2, 4]
    assert visible.seen(real.bootstrap, topic) == ["0", "2"]
    assert visible.written(real.bootstrap, topic) == ["0", "1", "2"]


def test_what_is_not_confirmed_when_it_is_aborted_fails_as_that(real: Broker) -> None:
    topic = real.topic()
    with sending(real, linger_ms=5_000) as one:
        one.begun()
        one.send(topic)
        one.transactor.abort(TIMEOUT)
        (failure,) = one.confirmed()
        assert isinstance(failure, Failure)
        assert (failure.fault, failure.text) == (Fault.ABORTED, "its transaction was aborted")
        one.transactor.begin()
        one.send(topic)
        one.transactor.commit(TIMEOUT)
        assert isinstance(one.confirmed()[-1], int)


def test_a_step_out_of_turn_is_the_end_of_the_client(real: Broker) -> None:
    """Begun twice, and committed without having begun: its state is not what we think it is."""
    with sending(real) as one:
        one.begun()
        assert unsettled(one.transactor.begin).remedy is Remedy.END
        one.transactor.commit(TIMEOUT)
        for step in (one.transactor.commit, one.transactor.abort):
            said = unsettled(lambda step=step: step(TIMEOUT))  # type: ignore[misc]  # this one
            assert (said.remedy, said.code) == (Remedy.END, "_STATE")


def test_outside_of_a_transaction_nothing_is_accepted(real: Broker) -> None:
    topic = real.topic()
    with sending(real) as one:
        one.begun()
        one.transactor.commit(TIMEOUT)
        with pytest.raises(Refused) as refused:
            one.send(topic)
        assert refused.value.failure.code == "_STATE"
    assert visible.written(real.bootstrap, topic) == []


def test_without_a_broker_a_step_is_to_be_taken_again() -> None:
    """In no more than the time that it was given; until it has ended no other is taken."""
    with sending(Broker("nowhere", "127.0.0.1:1")) as one:
        began = time.monotonic()
        said = unsettled(lambda: one.transactor.ready(0.5))
        assert (said.remedy, said.code) == (Remedy.AGAIN, "_TIMED_OUT")
        assert time.monotonic() - began < 5
        for step in (one.transactor.commit, one.transactor.abort):
            said = unsettled(lambda step=step: step(0.5))  # type: ignore[misc]  # this one
            assert (said.remedy, said.code) == (Remedy.AGAIN, "_CONFLICT")


def test_once_let_go_each_step_says_so() -> None:
    one = Sending(Broker("nowhere", "127.0.0.1:1"))
    one.transactor.close()
    steps: list[Callable[[], object]] = [
        lambda: one.transactor.ready(1),
        one.transactor.begin,
        lambda: one.transactor.add_offsets({Place("a", 0): Kept(1)}, None, 1),
        lambda: one.transactor.commit(1),
        lambda: one.transactor.abort(1),
    ]
    assert [unsettled(step).remedy for step in steps] == [Remedy.END] * 5
    with pytest.raises(Refused):
        one.send("a")


# ── another of the same id ───────────────────────────────────────────────────────────────────────────────────────


def test_who_is_ready_aborts_what_the_one_before_has_left(real: Broker) -> None:
    """At once: readers see what comes after it."""
    topic = real.topic()
    with sending(real) as one, sending(real, one.name) as other:
        one.begun()
        one.send(topic, "left")
        one.confirmed()
        began = time.monotonic()
        other.begun()
        other.send(topic, "theirs")
        other.transactor.commit(TIMEOUT)
        assert visible.decided(real.bootstrap, topic) < 5
        assert time.monotonic() - began < 10
        assert visible.seen(real.bootstrap, topic) == ["theirs"]


@pytest.mark.parametrize("step", ["commit", "abort", "add_offsets", "send"])
def test_the_one_before_is_fenced_in_whatever_it_does_next(real: Broker, step: str) -> None:
    """By its answer, or by the client's own word when the broker refused what it had sent."""
    topic = real.topic()
    with sending(real) as one, sending(real, one.name) as other, Member(real, topic) as member:
        member.until(lambda: member.owned)
        one.begun()
        one.send(topic)
        one.confirmed()
        other.begun()
        if step == "send":
            one.send(topic)
            (_, failure) = one.confirmed()
            assert isinstance(failure, Failure)
            until(lambda: "_FENCED" in one.news() or one.transactor.fenced)
        elif step == "add_offsets":
            kept = {Place(topic, 0): Kept(1)}
            said = unsettled(lambda: one.transactor.add_offsets(kept, member.client.member(), TIMEOUT))
            assert said.remedy is Remedy.FENCED
        else:
            assert unsettled(lambda: getattr(one.transactor, step)(TIMEOUT)).remedy is Remedy.FENCED
        until(lambda: bool(one.news()) or one.transactor.fenced)
        assert one.transactor.fenced
        one.transactor.close()
        assert unsettled(lambda: one.transactor.commit(1)).remedy is Remedy.FENCED
        assert not other.transactor.fenced


# ── messages that fail ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_message_that_the_broker_refuses_aborts_all(real: Broker) -> None:
    """And what was sent with it to its partition is refused with it."""
    topic, other = real.topic(config={"max.message.bytes": "2000"}), real.topic()
    with sending(real, linger_ms=100) as one:
        one.begun()
        one.send(other)
        one.send(topic, "small")
        one.send(topic, LARGE)
        one.confirmed()
        failures = [end for end in one.ended if isinstance(end, Failure)]
        assert [(end.fault, end.code) for end in failures] == [(Fault.TOO_LARGE, "MSG_SIZE_TOO_LARGE")] * 2
        said = unsettled(lambda: one.transactor.commit(TIMEOUT))
        assert (said.remedy, said.passes) == (Remedy.ABORT, False)
        one.transactor.abort(TIMEOUT)
    assert visible.seen(real.bootstrap, other) == []


def test_the_next_transaction_to_its_partition_is_refused_by_the_same_client(real: Broker) -> None:
    """The broker misses the number of the message that it refused: why another client is taken after such an abort.

    Where this fails the client has learned better, and the other one is not needed any more.
    """
    topic = real.topic(config={"max.message.bytes": "2000"})
    with sending(real) as one, sending(real, one.name) as other:
        one.begun()
        one.send(topic, LARGE)
        one.confirmed()
        one.transactor.abort(TIMEOUT)
        one.transactor.begin()
        one.send(topic, "next")
        one.confirmed()
        said = unsettled(lambda: one.transactor.commit(TIMEOUT))
        assert (said.remedy, said.code) == (Remedy.ABORT, "OUT_OF_ORDER_SEQUENCE_NUMBER")
        other.begun()
        other.send(topic, "another client's")
        other.transactor.commit(TIMEOUT)
    assert visible.seen(real.bootstrap, topic) == ["another client's"]


# ── offsets ──────────────────────────────────────────────────────────────────────────────────────────────────────


def committed(broker: Broker, group: str, *places: Place) -> dict[Place, Kept | None]:
    return ConfluentTopics({"bootstrap.servers": broker.bootstrap}).committed(group, list(places), TIMEOUT)


def test_what_a_group_has_committed(real: Broker) -> None:
    """With what was kept beside it; nothing where it has nothing, or nobody knows the group."""
    topic = real.topic(2)
    places = [Place(topic, 0), Place(topic, 1)]
    assert committed(real, new_group(), *places) == {places[0]: None, places[1]: None}
    with Member(real, topic) as member:
        member.until(lambda: len(member.owned) == 2)
        member.client.commit({places[0]: Kept(7, "beside")})
        member.until(lambda: member.answers)
        assert committed(real, member.group, *places) == {places[0]: Kept(7, "beside"), places[1]: None}


@pytest.mark.parametrize("ending", ["commit", "abort"])
def test_while_a_transaction_is_open_nobody_is_told_what_is_committed(real: Broker, ending: str) -> None:
    """It may help to ask again: once it has ended the answer is as that has it, with what is kept beside."""
    topic = real.topic(2)
    place, other = Place(topic, 0), Place(topic, 1)
    with Member(real, topic) as member, sending(real) as one:
        member.until(lambda: len(member.owned) == 2)
        assert member.commit({place: 1, other: 1}) == {place: None, other: None}
        one.begun()
        one.transactor.add_offsets({place: Kept(2, "beside")}, member.client.member(), TIMEOUT)
        topics = ConfluentTopics({"bootstrap.servers": real.bootstrap})
        with pytest.raises(BrokerError) as told:
            topics.committed(member.group, [place, other], 1.0)
        assert told.value.retriable
        assert topics.pending(member.group, [place, other], TIMEOUT) == [place]
        with pytest.raises(BrokerError) as waited:
            member.client.committed([place], 1.0)
        assert waited.value.retriable
        assert committed(real, member.group, other) == {other: Kept(1)}
        getattr(one.transactor, ending)(TIMEOUT)
        expected = Kept(2, "beside") if ending == "commit" else Kept(1)
        until(lambda: _settles(lambda: committed(real, member.group, place)) == {place: expected})
        assert member.client.committed([place], TIMEOUT) == {place: expected}


def _settles(question: Callable[[], dict[Place, Kept | None]]) -> dict[Place, Kept | None]:
    try:
        return question()
    except BrokerError:
        return {}


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def quick(broker: Broker, group: str, protocol: str) -> dict[str, Any]:
    """Settings of a member that is missed soon, and whose poll may be late by no more than 3 s."""
    settings: dict[str, Any] = {**named(protocol), "max_poll_interval_ms": 3_000}
    if protocol == "consumer":
        own = {"consumer.session.timeout.ms": 3_000, "consumer.heartbeat.interval.ms": 200}
        configure_group(broker.bootstrap, group, own)
        return settings
    return {**settings, "session_timeout_ms": 3_000, "heartbeat_interval_ms": 200}


def takes(one: Sending, place: Place, member: object) -> Unsettled | None:
    """Why a transaction does not take an offset by that member; None if it does."""
    one.transactor.begin()
    try:
        one.transactor.add_offsets({place: Kept(5)}, member, TIMEOUT)
    except Unsettled as said:
        one.transactor.abort(TIMEOUT)
        return said
    one.transactor.commit(TIMEOUT)
    return None


def test_a_member_of_a_past_generation_is_refused(real: Broker, protocol: str) -> None:
    """Where another has the partition by now: the work is his to do again, and the client is as it was."""
    topic, group = real.topic(2), new_group()
    settings = quick(real, group, protocol)
    with Member(real, topic, group=group, **settings) as member, sending(real) as one:
        member.until(lambda: len(member.owned) == 2)
        one.transactor.ready(TIMEOUT)
        past = member.client.member()
        assert [takes(one, place, past) for place in member.owned] == [None, None]
        with Beside(lambda: Member(real, topic, group=group, **settings)) as other:
            member.until(lambda: len(member.owned) == len(other.owned) == 1)
            (theirs,), (mine,) = other.owned, member.owned
            said = takes(one, theirs, past)
            assert said is not None
            assert said.remedy is Remedy.ABORT
            assert takes(one, mine, member.client.member()) is None


def test_a_member_that_was_thrown_out_is_refused_until_it_takes_part_again(real: Broker, protocol: str) -> None:
    """Whenever it asks what the group knows it by: the answer never is that of nobody, whom the group lets commit."""
    topic, group = real.topic(), new_group()
    settings = quick(real, group, protocol)
    place = Place(topic, 0)
    with Member(real, topic, group=group, **settings) as member, sending(real) as one:
        member.until(lambda: member.owned)
        one.transactor.ready(TIMEOUT)
        with Beside(lambda: Member(real, topic, group=group, **settings)) as other:
            until(lambda: bool(other.owned))  # the first one does not poll, so it is thrown out
            asked = [member.client.member()]
            while member.owned:
                member.turn(0.05)
                if member.owned:
                    asked.append(member.client.member())
        said = [takes(one, place, each) for each in asked]
    assert None not in said


def test_who_never_took_part_is_not_refused(real: Broker) -> None:
    """Under the classic protocols, whoever has the partition: so a member is asked only while something is assigned."""
    topic, group = real.topic(), new_group()
    place = Place(topic, 0)
    stranger = Member(real, group=group)
    with Member(real, topic, group=group) as member, sending(real) as one:
        member.until(lambda: member.owned)
        one.transactor.ready(TIMEOUT)
        assert takes(one, place, stranger.client.member()) is None
    stranger.client.close()


@pytest.mark.parametrize("member", ["a-group", None, b"x", 7])
def test_what_is_no_member_at_all_is_a_mistake(real: Broker, member: object) -> None:
    with sending(real) as one:
        one.begun()
        with pytest.raises(Exception) as refused:  # noqa: PT011 - the client's own
            one.transactor.add_offsets({Place("a", 0): Kept(1)}, member, TIMEOUT)
        assert str(refused.value)
        one.transactor.abort(TIMEOUT)
