"""`before_send`: each in turn is given the message that is to be sent, and may change or refuse it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from karafka.errors import ConfigError, InvalidMessageError
from karafka.letters import Outgoing
from karafka.producer import Producer
from tests.unit.post import Post, without_threads


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Post:
    return Post(without_threads(monkeypatch).wait)


def test_in_order_each_sees_what_the_one_before_made(post: Post) -> None:
    def one(message: Outgoing) -> Outgoing:
        return replace(message, payload=[message.payload], headers={"by": "one"})

    def two(message: Outgoing) -> Outgoing:
        return replace(message, topic=message.topic + ".v2", payload=[*message.payload, message.headers], key="k")

    producer = Producer({}, before_send=[one, two], sender=lambda: post)
    handle = producer.produce_async("orders", 1, label=7)

    (sent,) = post.sent
    assert (sent.topic, sent.value, sent.key) == ("orders.v2", b'[1,{"by":"one"}]', "k")
    assert (handle.topic, handle.key, handle.label) == ("orders.v2", "k", 7)


def test_everything_that_was_given_is_there(post: Post) -> None:
    """As it was given: nothing is written yet."""
    seen: list[Outgoing] = []
    headers, payload = {"a": "b"}, {"c": object()}

    def look(message: Outgoing) -> Outgoing:
        seen.append(message)
        return replace(message, payload=b"")

    producer = Producer({}, before_send=[look], sender=lambda: post)
    producer.produce_async("a", payload, key="k", headers=headers, partition=1, timestamp=2.0, label="l")

    assert seen == [Outgoing("a", payload, "k", headers, 1, 2.0, "l")]
    assert seen[0].payload is payload


def test_what_it_raises_refuses_the_message(post: Post) -> None:
    """The sender gets just that; the next one is not asked, nothing is sent."""
    asked: list[Outgoing] = []

    def refuse(message: Outgoing) -> Outgoing:
        raise PermissionError(message.topic)

    def ask(message: Outgoing) -> Outgoing:
        asked.append(message)
        return message

    producer = Producer({}, before_send=[refuse, ask], sender=lambda: post)
    for send in (producer.produce_async, producer.produce_sync, producer.buffer):
        with pytest.raises(PermissionError, match="orders"):
            send("orders", b"")

    assert (asked, post.sent) == ([], [])


@pytest.mark.parametrize("answer", [None, True, b"x", {"topic": "a"}])
def test_one_that_returns_no_message_is_named(post: Post, answer: Any) -> None:
    """The usual slip is a missing `return`."""

    def forgetful(_message: Outgoing) -> Outgoing:
        return answer  # type: ignore[no-any-return]  # that is the slip

    producer = Producer({}, before_send=[forgetful], sender=lambda: post)

    with pytest.raises(ConfigError, match=r"before_send: .*forgetful answered .*must return an Outgoing"):
        producer.produce_async("orders", b"")
    assert post.sent == []


def test_what_it_made_is_checked(post: Post) -> None:
    producer = Producer({}, before_send=[lambda one: replace(one, topic="two words")], sender=lambda: post)

    with pytest.raises(InvalidMessageError, match="two words"):
        producer.produce_async("orders", b"")


@pytest.mark.parametrize("before_send", [[7], [None], bool])
def test_what_cannot_be_called_is_refused_where_it_is_given(before_send: Any) -> None:
    """A sequence of them is meant, also of one."""
    with pytest.raises(ConfigError, match="before_send"):
        Producer({"bootstrap.servers": "a:1"}, before_send=before_send)
