"""What the client says of a delivery, and what it means: who has to act, and whether sending again may help."""

from __future__ import annotations

import logging
from time import monotonic

import pytest
from confluent_kafka import KafkaError

from karafka import sender as sending
from karafka.client import Effect
from karafka.delivery import Failure, Fault, error_of
from karafka.errors import (
    ClientFailedError,
    DeliveryError,
    DeliveryTimeoutError,
    InvalidMessageError,
    NotAuthorizedError,
    ProducerClosedError,
    TooLargeError,
    UnknownTopicError,
)
from karafka.sender import ConfluentSender, Reports


@pytest.fixture
def reports() -> Reports:
    return Reports(acks=True, error_cb=None)


def code(name: str) -> int:
    found = getattr(KafkaError, name)
    assert isinstance(found, int)
    return found


@pytest.mark.parametrize(("acks", "confirmed"), [("all", False), ("1", False), ("0", True)])
def test_a_delivery_without_an_offset_is_no_confirmation(acks: str, *, confirmed: bool) -> None:
    """The idempotent producer says so of messages that are nowhere; without acknowledgements there are no offsets."""
    sender = ConfluentSender({"bootstrap.servers": "", "acks": acks, "log_level": 0})
    found = sender.judge(None)

    assert (found is None) == confirmed
    if found is not None:
        assert "gave no offset (DUPLICATE)" in found.text
        assert found.retriable


@pytest.mark.parametrize(
    ("name", "kind", "retriable"),
    [
        ("MSG_SIZE_TOO_LARGE", TooLargeError, False),
        ("RECORD_LIST_TOO_LARGE", TooLargeError, False),
        ("INVALID_MSG", InvalidMessageError, False),
        ("INVALID_RECORD", InvalidMessageError, False),
        ("INVALID_TIMESTAMP", InvalidMessageError, False),
        ("TOPIC_EXCEPTION", InvalidMessageError, False),
        ("UNKNOWN_TOPIC_OR_PART", UnknownTopicError, False),
        ("_UNKNOWN_TOPIC", UnknownTopicError, False),
        ("_UNKNOWN_PARTITION", UnknownTopicError, False),
        ("TOPIC_AUTHORIZATION_FAILED", NotAuthorizedError, False),
        ("CLUSTER_AUTHORIZATION_FAILED", NotAuthorizedError, False),
        ("SASL_AUTHENTICATION_FAILED", NotAuthorizedError, False),
        ("_AUTHENTICATION", NotAuthorizedError, False),
        ("_SSL", NotAuthorizedError, False),
        ("_MSG_TIMED_OUT", DeliveryTimeoutError, True),
        ("REQUEST_TIMED_OUT", DeliveryTimeoutError, True),
        ("_FATAL", ClientFailedError, True),
        ("_PURGE_QUEUE", ProducerClosedError, False),
        ("_PURGE_INFLIGHT", ProducerClosedError, False),
        ("NOT_ENOUGH_REPLICAS", DeliveryError, True),
        ("NOT_ENOUGH_REPLICAS_AFTER_APPEND", DeliveryError, True),
        ("NOT_LEADER_FOR_PARTITION", DeliveryError, True),
        ("LEADER_NOT_AVAILABLE", DeliveryError, True),
        ("KAFKA_STORAGE_ERROR", DeliveryError, True),
        ("_TRANSPORT", DeliveryError, True),
        ("POLICY_VIOLATION", DeliveryError, False),
        ("INVALID_REQUIRED_ACKS", DeliveryError, False),
        ("UNSUPPORTED_COMPRESSION_TYPE", DeliveryError, False),
        ("UNSUPPORTED_FOR_MESSAGE_FORMAT", DeliveryError, False),
    ],
)
def test_each_reason_is_an_error_of_its_own_kind(
    reports: Reports, name: str, kind: type[DeliveryError], *, retriable: bool
) -> None:
    """By who has to act: the developer, who runs the cluster, or time. Retriable is what is so in Java's client."""
    failure = reports.failure(KafkaError(code(name)))
    error = error_of(failure, "orders", "k")

    assert type(error) is kind
    assert (error.retriable, error.topic, error.key) == (retriable, "orders", "k")
    assert "a message to 'orders' with key 'k' was not delivered: " in str(error)


def test_the_code_is_kafkas_own_name(reports: Reports) -> None:
    """In a field, and behind the client's words."""
    failure = reports.failure(KafkaError(code("NOT_ENOUGH_REPLICAS")))

    assert failure.code == "NOT_ENOUGH_REPLICAS"
    assert failure.text.endswith("(NOT_ENOUGH_REPLICAS)")


def test_what_is_fatal_takes_the_client_with_it(reports: Reports) -> None:
    """Whatever its code: the next client may do better."""
    failure = reports.failure(KafkaError(code("OUT_OF_ORDER_SEQUENCE_NUMBER"), "gap", True))

    assert (failure.fault, failure.retriable) == (Fault.CLIENT_FAILED, True)


@pytest.mark.parametrize("name", ["_PURGE_QUEUE", "_PURGE_INFLIGHT"])
def test_what_was_given_up_has_the_reason_of_who_did(reports: Reports, name: str) -> None:
    """The client's word for it says nothing."""
    reports.given_up = Failure(Fault.CLIENT_FAILED, "", "the client is of no more use", retriable=True)

    assert reports.judge(KafkaError(code(name))) is reports.given_up


class TestLastWord:
    """A time-out says nothing of its reason: the client has said it before."""

    @pytest.mark.parametrize("name", ["_MSG_TIMED_OUT", "REQUEST_TIMED_OUT"])
    def test_it_is_told_with_the_time_out(self, reports: Reports, name: str) -> None:
        """And it stays a time-out."""
        reports.on_error(KafkaError(code("_ALL_BROKERS_DOWN"), "2/2 brokers are down"))
        failure = reports.failure(KafkaError(code(name)))

        assert failure.fault is Fault.TIMED_OUT
        assert failure.text.endswith("; the client's last word: 2/2 brokers are down (_ALL_BROKERS_DOWN)")
        assert failure.retriable

    @pytest.mark.parametrize("name", ["_AUTHENTICATION", "_SSL", "SASL_AUTHENTICATION_FAILED"])
    def test_where_a_person_must_act_it_is_that(self, reports: Reports, name: str) -> None:
        """Sending again would only be late again."""
        reports.on_error(KafkaError(code(name), "bad password"))
        failure = reports.failure(KafkaError(code("_MSG_TIMED_OUT")))

        assert failure.fault is Fault.NOT_AUTHORIZED
        assert "bad password" in failure.text
        assert not failure.retriable

    def test_nothing_is_said_where_nothing_was(self, reports: Reports) -> None:
        assert "last word" not in reports.failure(KafkaError(code("_MSG_TIMED_OUT"))).text

    def test_it_does_not_explain_what_comes_much_later(self, reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nor what has a reason of its own."""
        reports.on_error(KafkaError(code("_ALL_BROKERS_DOWN"), "2/2 brokers are down"))
        assert "last word" not in reports.failure(KafkaError(code("NOT_ENOUGH_REPLICAS"))).text
        now = monotonic()
        monkeypatch.setattr(sending, "monotonic", lambda: now + sending.RECENT + 1)

        assert "last word" not in reports.failure(KafkaError(code("_MSG_TIMED_OUT"))).text


class TestNews:
    """Errors that are of no message."""

    def test_they_are_kept_until_asked_for(self) -> None:
        sender = ConfluentSender({"bootstrap.servers": "", "log_level": 0})
        sender._reports.on_error(KafkaError(code("_TRANSPORT"), "refused"))

        (news,) = sender.news()
        assert (news.code, news.text, news.effect) == ("_TRANSPORT", "refused", Effect.NEWS)
        assert sender.news() == []

    @pytest.mark.parametrize(("fatal", "effect"), [(True, Effect.END), (False, Effect.NEWS)])
    def test_only_what_is_fatal_ends_a_producers_client(self, reports: Reports, effect: Effect, *, fatal: bool) -> None:
        """Of some errors only a consumer dies."""
        reports.on_error(KafkaError(code("UNSUPPORTED_VERSION"), "old", fatal))

        assert [one.effect for one in reports.news] == [effect]

    def test_the_users_own_callback_hears_them_too(self, caplog: pytest.LogCaptureFixture) -> None:
        """One that raises breaks nothing: reports are served by the same call."""
        heard: list[str] = []

        def error_cb(error: KafkaError) -> None:
            heard.append(error.name())
            raise ZeroDivisionError

        reports = Reports(acks=True, error_cb=error_cb)
        with caplog.at_level(logging.ERROR, "karafka.producer"):
            reports.on_error(KafkaError(code("_TRANSPORT")))

        assert heard == ["_TRANSPORT"]
        assert len(reports.news) == 1
        assert "the error_cb of a producer raised" in caplog.text
