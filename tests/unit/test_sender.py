"""What a producer's client is told at its start, unless the user says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Event
from typing import Any

import pytest
from confluent_kafka import Consumer

from karafka.client import Kept, Refused, Remedy, Unsettled
from karafka.delivery import Fault
from karafka.errors import ConfigError
from karafka.letters import Letter
from karafka.messages import Place
from karafka.producer import Producer
from karafka.sender import ConfluentSender, ConfluentTransactor, check_producer, defaults

NOWHERE: Mapping[str, Any] = {"bootstrap.servers": "", "log_level": 0}


def forget(_error: object, _receipt: object) -> None:
    """Nobody waits for it."""


def test_confirmed_by_all_not_doubled_keys_as_in_java() -> None:
    """And sent at once, compressed by what costs least."""
    assert defaults({"bootstrap.servers": "a:1"}) == {
        "bootstrap.servers": "a:1",
        "acks": "all",
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
        "linger.ms": 0,
        "log.connection.close": False,
    }


@pytest.mark.parametrize("acks", ["all", "-1", -1])
@pytest.mark.parametrize("name", ["acks", "request.required.acks"])
def test_all_by_any_name_is_not_doubled(name: str, acks: str | int) -> None:
    found = defaults({name: acks})

    assert found["enable.idempotence"] is True
    assert {str(found[one]) for one in ("acks", "request.required.acks") if one in found} == {str(acks)}


@pytest.mark.parametrize("acks", [0, 1, "0", "1"])
@pytest.mark.parametrize("name", ["acks", "request.required.acks"])
def test_less_than_all_is_not_idempotent(name: str, acks: str | int) -> None:
    """The client takes it with `acks=all` alone."""
    found = defaults({name: acks})

    assert "enable.idempotence" not in found
    assert {str(found[one]) for one in ("acks", "request.required.acks") if one in found} == {str(acks)}
    ConfluentSender({**NOWHERE, name: acks}).close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("enable.idempotence", False),
        ("partitioner", "consistent_random"),
        ("compression.type", "zstd"),
        ("linger.ms", 50),
        ("log.connection.close", True),
    ],
)
def test_what_the_user_says_is_so(name: str, value: Any) -> None:
    assert defaults({name: value})[name] == value


@pytest.mark.parametrize(
    ("kafka", "said"),
    [
        ({"lingering": 5}, r"sets 'lingering', which librdkafka does not know"),
        ({"message.max.bytes": "large"}, r"sets 'message\.max\.bytes' to 'large', which librdkafka refuses"),
        ({"partitioner": "mine"}, r"sets 'partitioner' to 'mine', which librdkafka refuses"),
        ({"acks": 0, "enable.idempotence": True}, r"acks.*enable\.idempotence"),
        ({"linger.ms": "soon"}, r"sets 'linger\.ms' to 'soon', which librdkafka refuses: .* property \"linger\.ms\"$"),
        ({"linger.ms": -5}, r"sets 'linger\.ms' to -5, which librdkafka refuses: .*\"linger\.ms\" value -5 is outside"),
        ({"queue.buffering.max.ms": -5}, r"sets 'queue\.buffering\.max\.ms' to -5"),
        ({"acks": "many"}, r"sets 'acks' to 'many'"),
        ({"retries": -1}, r"sets 'retries' to -1"),
        ({"delivery.timeout.ms": -1}, r"sets 'delivery\.timeout\.ms' to -1"),
        ({"compression.type": "tight"}, r"sets 'compression\.type' to 'tight'"),
        ({"max.in.flight": 0}, r"sets 'max\.in\.flight' to 0"),
    ],
)
def test_what_the_client_refuses_is_one_sentence(kafka: Mapping[str, Any], said: str) -> None:
    """Where it is given, before anything is sent."""
    for check in (
        lambda: check_producer(kafka, "Producer(…)"),
        lambda: ConfluentSender({**NOWHERE, **kafka}),
        lambda: Producer({"bootstrap.servers": "nowhere:1", **kafka}),
    ):
        with pytest.raises(ConfigError, match=rf"Producer\(…\) .*{said}") as refused:
            check()
        assert "\n" not in str(refused.value)


def test_secrets_are_not_shown() -> None:
    with pytest.raises(ConfigError) as refused:
        check_producer(
            {"sasl.mechanism": "PLAIN", "sasl.password": "s3cret", "security.protocol": "none"}, "Producer(…)"
        )

    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("letter", "fault"),
    [
        (Letter("orders", "\ud800", None, None), Fault.INVALID),
        (Letter("orders", b"", "\ud800", None), Fault.INVALID),
        (Letter("orders", b"x" * 2_000_000, None, None), Fault.TOO_LARGE),
        (Letter("orders", b"", b"x" * 2_000_000, None), Fault.TOO_LARGE),
    ],
)
def test_what_the_client_does_not_accept_is_refused(letter: Letter, fault: Fault) -> None:
    """With who has to act: sent again it would be refused again."""
    sender = ConfluentSender(NOWHERE)
    with pytest.raises(Refused) as refused:
        sender.send(letter, forget)

    assert refused.value.failure.fault is fault
    assert not refused.value.failure.retriable
    assert sender.waiting() == 0


def test_a_step_that_the_client_does_not_come_back_from_is_over_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """librdkafka waits for the group's coordinator for ever; whoever waits for it must not."""
    monkeypatch.setattr("karafka.sender.GRACE", 0.05)
    transactor, let_go = ConfluentTransactor({**NOWHERE, "transactional.id": "t"}), Event()
    monkeypatch.setattr(transactor, "_client", Stuck(let_go))

    with pytest.raises(Unsettled, match="has not come back") as over:
        transactor.add_offsets({Place("orders", 0): Kept(1, "")}, None, 0.05)
    let_go.set()

    assert over.value.remedy is Remedy.END
    assert over.value.passes


def test_what_the_client_says_of_offsets_is_passed_on() -> None:
    transactor = ConfluentTransactor({**NOWHERE, "transactional.id": "t"})
    member = Consumer({**NOWHERE, "group.id": "g"}).consumer_group_metadata()

    with pytest.raises(Unsettled) as refused:
        transactor.add_offsets({Place("orders", 0): Kept(1, "")}, member, 0.05)

    assert refused.value.code == "_STATE"


class Stuck:
    """A client that is in a call until it is let go."""

    def __init__(self, let_go: Event) -> None:
        self._let_go = let_go

    def send_offsets_to_transaction(self, *_: object) -> None:
        assert self._let_go.wait(30)


def test_a_client_that_was_let_go_refuses() -> None:
    """Nothing it took would ever be told of."""
    sender = ConfluentSender(NOWHERE)
    sender.close()
    sender.serve(0)
    sender.hasten(0)

    assert sender.waiting() == 0
    with pytest.raises(Refused):
        sender.send(Letter("orders", b"", None, None), forget)
    with pytest.raises(Refused):
        sender.quick("orders", b"", None, -1, forget, None, 0, None)
