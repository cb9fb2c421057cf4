"""What the client's errors mean to a person: the words are the client's own, as seen."""

from __future__ import annotations

import pytest

from karafka.client import Effect, Trouble
from karafka.clock import ManualClock
from karafka.diagnosis import Cause, diagnose
from karafka.events import ClientRecovered, ClientTroubled, ClusterRefused, Event, Events
from karafka.troubles import ECHO, REASON, Troubles

KAFKA = {"bootstrap.servers": "here:9092", "sasl.username": "ada", "sasl.mechanism": "SCRAM-SHA-512"}

SAID = [
    (
        "_TRANSPORT",
        "b:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)",
        Cause.UNREACHABLE,
        "no broker answers at here:9092 (Connection refused)",
    ),
    (
        "_RESOLVE",
        "no-such.invalid:9092/bootstrap: Failed to resolve 'no-such.invalid:9092': Name not known",
        Cause.UNRESOLVED,
        "no-such.invalid:9092 cannot be resolved",
    ),
    (
        "_BAD_MSG",
        "b:1/bootstrap: Receive failed: Invalid response size 1213486160 (0..100000000): increase receive.message.max",
        Cause.NOT_KAFKA,
        "what answers at b:1 is not Kafka",
    ),
    (
        "_TRANSPORT",
        "ssl://b:1/bootstrap: Disconnected: SSL connection closed by peer (after 6ms in state SSL_HANDSHAKE)",
        Cause.NO_TLS,
        "b:1 does not speak TLS",
    ),
    (
        "_SSL",
        "ssl://b:1/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker",
        Cause.TLS,
        "the certificate of b:1 is not trusted",
    ),
    (
        "_TRANSPORT",
        "ssl://b:1/1: error:0A000086:SSL routines::certificate verify failed (after 5ms in state SSL_HANDSHAKE)",
        Cause.TLS,
        "the certificate of b:1 is not trusted",
    ),
    (
        "_AUTHENTICATION",
        "b:1/1: SASL authentication error: Authentication failed: Invalid username or password (after 3ms)",
        Cause.CREDENTIALS,
        "the cluster refuses the user 'ada' (Invalid username or password)",
    ),
    (
        "_AUTHENTICATION",
        "b:1/1: SASL SCRAM-SHA-512 mechanism handshake failed: broker's supported mechanisms: PLAIN,SCRAM-SHA-256",
        Cause.MECHANISM,
        "does not take sasl.mechanism 'SCRAM-SHA-512': it takes PLAIN, SCRAM-SHA-256",
    ),
    (
        "_AUTHENTICATION",
        "sasl://b:1/1: SASL PLAIN mechanism handshake failed: broker's supported mechanisms:  (after 3ms)",
        Cause.NO_SASL,
        "b:1 does not use SASL",
    ),
]


@pytest.mark.parametrize(("code", "text", "cause", "sentence"), SAID)
def test_what_the_client_says_is_told_in_plain_words(code: str, text: str, cause: Cause, sentence: str) -> None:
    """With what is wrong, where, and the way out."""
    found = diagnose(Trouble(code, text, Effect.NEWS), KAFKA, "g")

    assert found is not None
    assert found.cause is cause
    assert sentence in found.sentence


def test_what_is_refused_names_the_right_that_is_missing() -> None:
    """For whoever may give it."""
    topic = diagnose(Trouble("TOPIC_AUTHORIZATION_FAILED", "", Effect.HOLD, "orders"), KAFKA, "g")
    group = diagnose(Trouble("GROUP_AUTHORIZATION_FAILED", "", Effect.HOLD), KAFKA, "g")

    assert topic is not None
    assert group is not None
    assert (topic.cause, topic.about) == (Cause.TOPIC, "orders")
    assert "allow READ on it" in topic.sentence
    assert "allow READ on group 'g'" in group.sentence


def test_a_dead_letter_topic_wants_another_right() -> None:
    """It is written, not read."""
    found = diagnose(Trouble("TOPIC_AUTHORIZATION_FAILED", "", Effect.HOLD, "dead"), KAFKA, "g", grave=True)

    assert found is not None
    assert "dead letter topic 'dead'" in found.sentence
    assert "allow WRITE on it" in found.sentence


def test_a_topic_that_is_refused_and_not_named_is_found_by_the_watch() -> None:
    """The client does not always say which; sometimes it is in its words."""
    code = "TOPIC_AUTHORIZATION_FAILED"
    assert diagnose(Trouble(code, "ConsumerGroupHeartbeat failed: no", Effect.HOLD), KAFKA, "g") is None
    found = diagnose(Trouble(code, "orders [0]: desired partition is gone", Effect.HOLD), KAFKA, "g")
    assert found is not None
    assert found.about == "orders"


class Desk:
    """`Troubles` on a clock that is moved by hand."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.endings: list[int] = []
        self.clock = ManualClock()
        events = Events()
        events.on(Event, self.told.append)
        self.troubles = Troubles(KAFKA, events, self.clock, lambda status, _reason: self.endings.append(status))

    def hear(self, code: str, text: str = "", group: str = "g", topic: str | None = None) -> None:
        self.troubles.heard(group, Trouble(code, text, Effect.NEWS, topic))

    @property
    def said(self) -> list[str]:
        return [one.error for one in self.told if isinstance(one, ClientTroubled | ClusterRefused)]


@pytest.fixture
def desk() -> Desk:
    return Desk()


REFUSED = ("_AUTHENTICATION", "x:1/1: SASL authentication error: Authentication failed: no (after 1ms)")


def test_each_cause_is_told_once_until_it_is_over(desk: Desk) -> None:
    """However often, by whichever group it is heard."""
    for group in ("g", "h"):
        desk.hear("_TRANSPORT", "x:1/1: Connect failed", group)
        desk.hear("_ALL_BROKERS_DOWN", "1/1 brokers are down", group)
    desk.clock.advance(5)
    desk.troubles.turn("g")
    assert len(desk.said) == 1

    desk.troubles.works("h")
    assert [one.waited for one in desk.told if isinstance(one, ClientRecovered)] == [5.0]
    assert not desk.troubles.any
    desk.clock.advance(ECHO)
    desk.hear("_TRANSPORT", "x:1/1: Connect failed")
    assert len(desk.said) == 1, "another broker may answer"
    desk.hear("_ALL_BROKERS_DOWN")
    assert len(desk.said) == 2


def test_what_was_under_way_when_it_was_over_is_not_told_again(desk: Desk) -> None:
    """Other connections learn later that the cluster is back. What lasts is told."""
    desk.troubles.works("g")
    desk.hear(*REFUSED)
    desk.clock.advance(10)
    desk.troubles.works("g")
    desk.clock.advance(ECHO / 2)
    desk.hear(*REFUSED)
    assert (len(desk.said), desk.troubles.any) == (1, False)

    desk.clock.advance(ECHO)
    desk.hear(*REFUSED)
    assert (len(desk.said), desk.troubles.any) == (2, True)


def test_brokers_that_go_again_at_once_are_told_a_little_later(desk: Desk) -> None:
    """The client says it only once each time."""
    desk.hear("_TRANSPORT", "x:1/1: Connect failed")
    desk.hear("_ALL_BROKERS_DOWN")
    desk.troubles.works("g")
    desk.hear("_TRANSPORT", "x:1/1: Connect failed")
    desk.hear("_ALL_BROKERS_DOWN")
    assert len(desk.said) == 1

    desk.clock.advance(ECHO)
    desk.troubles.turn("g")
    assert len(desk.said) == 2
    assert desk.said[0] == desk.said[1]


def test_what_waiting_cannot_help_ends_the_process_if_nothing_ever_worked(desk: Desk) -> None:
    """In whichever order the client says it, once all brokers have refused."""
    desk.hear("_ALL_BROKERS_DOWN")
    assert desk.endings == []
    desk.hear(*REFUSED)
    desk.hear(*REFUSED)

    assert desk.endings == [1]
    assert isinstance(desk.told[0], ClusterRefused)


def test_who_is_refused_is_not_told_that_nobody_answers(desk: Desk) -> None:
    """Connections that are refused are closed, and look like brokers that are away."""
    desk.troubles.works("g")
    desk.hear(*REFUSED)
    desk.hear("_TRANSPORT", "GroupCoordinator: SASL authentication error: failed: Local: Broker transport failure")
    desk.hear("_ALL_BROKERS_DOWN")

    assert len(desk.said) == 1


def test_as_long_as_another_broker_may_answer_it_is_waited_for(desk: Desk) -> None:
    """One of several may be set up differently."""
    desk.hear(*REFUSED)

    assert desk.endings == []


def test_what_worked_before_is_waited_for(desk: Desk) -> None:
    """Passwords are changed on the brokers one by one."""
    desk.troubles.works("g")
    desk.hear(*REFUSED)
    desk.hear("_ALL_BROKERS_DOWN")

    assert desk.endings == []
    assert isinstance(desk.told[0], ClientTroubled)


def test_brokers_that_are_down_without_a_reason_are_told_as_such_after_a_while(desk: Desk) -> None:
    """The reason may come a moment later."""
    desk.hear("_ALL_BROKERS_DOWN")
    desk.troubles.turn("g")
    assert desk.said == []
    desk.clock.advance(REASON)
    desk.troubles.turn("g")
    desk.troubles.turn("g")

    (said,) = desk.said
    assert "does not talk as Kafka does" in said


def test_a_refused_topic_is_over_when_its_messages_come(desk: Desk) -> None:
    """Those of others say nothing about it."""
    desk.hear("TOPIC_AUTHORIZATION_FAILED", topic="orders")
    desk.troubles.works("g", ["clicks"], member=True)
    assert desk.troubles.any
    desk.troubles.works("g", ["orders"])

    assert not desk.troubles.any


def test_a_refused_group_is_over_when_it_has_partitions_or_commits(desk: Desk) -> None:
    """Each group for itself."""
    desk.hear("GROUP_AUTHORIZATION_FAILED")
    desk.troubles.works("h", member=True)
    desk.troubles.works("g")
    assert desk.troubles.any
    desk.troubles.works("g", member=True)

    assert not desk.troubles.any
