"""A variant is a producer with other settings and everything else of its parent's, closed with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from karafka import producer as producing
from karafka.errors import ConfigError, ProducerClosedError
from karafka.events import Acknowledged
from karafka.parsers import Text
from karafka.producer import Producer
from tests.unit.post import Passing, Post, without_threads

KAFKA: Mapping[str, Any] = {"bootstrap.servers": "a:1", "linger.ms": 1, "transactional.id": "t"}


class Posts:
    """All clients that were made, with their settings."""

    def __init__(self, passing: Passing) -> None:
        self.made: list[tuple[dict[str, Any], Post]] = []
        self._passing = passing

    def __call__(self, kafka: Mapping[str, Any]) -> Post:
        self.made.append((dict(kafka), Post(self._passing.wait)))
        return self.made[-1][1]


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Passing:
    return without_threads(monkeypatch)


@pytest.fixture
def posts(monkeypatch: pytest.MonkeyPatch, passing: Passing) -> Posts:
    made = Posts(passing)
    monkeypatch.setattr(producing, "_connected", made)
    return made


@pytest.fixture
def producer(posts: Posts) -> Producer:
    return Producer({"bootstrap.servers": "a:1", "linger.ms": 1, "client.id": "c"})


@pytest.mark.parametrize(
    ("names", "settings"),
    [
        (({"linger.ms": 5, "acks": 0},), {}),
        ((), {"linger_ms": 5, "acks": 0}),
        (({"acks": 0},), {"linger_ms": 5}),
    ],
)
def test_settings_are_changed_and_the_others_stay(
    producer: Producer, posts: Posts, names: tuple[Any, ...], settings: dict[str, Any]
) -> None:
    """By Kafka's names, or with `_` for `.`."""
    producer.variant(*names, **settings).produce_async("orders", b"")

    ((kafka, post),) = posts.made
    assert kafka == {"bootstrap.servers": "a:1", "linger.ms": 5, "client.id": "c", "acks": 0}
    assert len(post.sent) == 1


def test_names_that_have_underscores_keep_them(producer: Producer, posts: Posts) -> None:
    producer.variant(log_level=0, socket_timeout_ms=1_000).produce_async("orders", b"")

    assert posts.made[0][0].keys() >= {"log_level", "socket.timeout.ms"}


def test_asked_for_again_it_is_the_same(producer: Producer) -> None:
    """In whatever order and way it is said; others are others."""
    one = producer.variant(acks=0, linger_ms=5)

    assert producer.variant({"linger.ms": 5}, acks="0") is one
    assert producer.variant({"linger.ms": 5, "acks": 0}) is one
    assert producer.variant(acks=0) is not one
    assert producer.variant(acks=1, linger_ms=5) is not one
    assert one is not producer


def test_it_has_a_client_of_its_own_from_its_first_send_on(producer: Producer, posts: Posts) -> None:
    """The parent's goes on."""
    variant = producer.variant(acks=0)
    assert posts.made == []
    producer.produce_async("orders", b"parent")
    variant.produce_async("orders", b"variant")

    assert [[one.value for one in post.sent] for _, post in posts.made] == [[b"parent"], [b"variant"]]


def test_it_has_the_parsers_the_changes_and_the_listeners(posts: Posts) -> None:
    parent = Producer(
        {"bootstrap.servers": "a:1"},
        parser=Text(),
        parsers={"raw": Text("utf-16-le")},
        before_send=[lambda one: replace(one, key="changed")],
        max_wait_on_full=3.0,
    )
    heard: list[Acknowledged] = []
    parent.events.on(Acknowledged, heard.append)
    variant = parent.variant(acks=1)
    variant.produce_sync("orders", b"", label="l")

    ((_, post),) = posts.made
    assert [one.key for one in post.sent] == ["changed"]
    assert [one.label for one in heard] == ["l"]
    assert (variant._parser, variant._parsers, variant._max_wait) == (parent._parser, parent._parsers, 3.0)


def test_it_is_not_transactional(posts: Posts) -> None:
    """Two clients of one `transactional.id` would throw each other out."""
    Producer(KAFKA).variant(linger_ms=5).produce_async("orders", b"")

    assert posts.made[0][0] == {"bootstrap.servers": "a:1", "linger.ms": 5}


def test_a_variant_that_takes_less_confirmation_is_not_idempotent(posts: Posts) -> None:
    """The client takes idempotence with `acks=all` alone: also where the parent asks for both by name."""
    parent = Producer({"bootstrap.servers": "a:1", "enable.idempotence": True, "acks": "all"})
    parent.variant(acks=0).produce_async("orders", b"")

    assert posts.made[0][0].get("enable.idempotence") in {None, False}


def test_it_is_closed_with_its_parent(producer: Producer, posts: Posts) -> None:
    """What it accepted is delivered, what it buffered is sent; and what is left of it is counted."""
    variant = producer.variant(acks=0)
    handle = variant.produce_async("orders", b"")
    variant.buffer("orders", b"buffered")
    assert producer.close() == 0

    assert handle.result().offset == 0
    assert [one.value for one in posts.made[0][1].sent] == [b"", b"buffered"]
    with pytest.raises(ProducerClosedError):
        variant.produce_async("orders", b"")
    with pytest.raises(ProducerClosedError):
        producer.variant(acks=0)


def test_it_is_flushed_with_its_parent(producer: Producer) -> None:
    """And so are variants of its own."""
    handles = [
        one.produce_async("orders", b"") for one in (producer.variant(acks=0), producer.variant(acks=0).variant())
    ]

    assert producer.flush() == 0
    assert all(handle.done for handle in handles)


def test_all_are_flushed_in_one_time(producer: Producer, posts: Posts, passing: Passing) -> None:
    """The parent's; what has not ended by then is counted over all."""
    for one in (producer, producer.variant(acks=0), producer.variant(acks=1)):
        one.produce_async("orders", b"")
        posts.made[-1][1].open = False
    before = passing.monotonic()

    assert producer.flush(5.0) == 3
    assert passing.monotonic() - before == pytest.approx(5.0, abs=0.2)


def test_what_it_could_not_deliver_counts(producer: Producer, posts: Posts) -> None:
    producer.variant(acks=0).produce_async("orders", b"")
    posts.made[0][1].open = False
    producer.produce_async("orders", b"")
    posts.made[1][1].open = False

    assert producer.close(1.0) == 2


def test_it_may_be_closed_alone(producer: Producer) -> None:
    """Its parent sends on."""
    producer.variant(acks=0).close()

    assert producer.produce_sync("orders", b"").offset == 0


def test_a_setting_that_belongs_to_the_framework_is_refused(producer: Producer) -> None:
    with pytest.raises(ConfigError, match=r"on.delivery"):
        producer.variant(on_delivery=1)
    with pytest.raises(ConfigError, match="belongs to the framework"):
        producer.variant({"delivery.report.only.error": True})


def test_a_setting_that_the_client_refuses_is_named_as_it_was_written() -> None:
    """However it was given, not by the client's other name for it."""
    parent = Producer({"bootstrap.servers": "a:1"})
    for names, settings in (((), {"linger_ms": -5}), (({"linger.ms": -5},), {})):
        with pytest.raises(ConfigError, match=r"sets 'linger\.ms' to -5.*outside") as refused:
            parent.variant(*names, **settings)
        assert "queue.buffering" not in str(refused.value)


def test_what_a_recorders_variant_is_given_is_recorded_in_the_same_place() -> None:
    """However it was sent."""
    recorder = Producer.recorder(parser=Text())
    recorder.produce_sync("orders", b"1")
    recorder.variant(acks=0).produce_sync("orders", b"2")
    recorder.produce_sync("orders", b"3")

    assert [(one.payload, one.offset) for one in recorder.recorded] == [(b"1", 0), (b"2", 1), (b"3", 2)]
    assert recorder.variant(acks=0).recorded == recorder.recorded
    recorder.close()
