"""Settings: what is refused, in which words; what is never shown."""

from __future__ import annotations

from typing import Any

import pytest

from karafka.config import OWNED, Config, Settings, check_settings, masked
from karafka.errors import ConfigError
from karafka.policy import MIB

KAFKA = {"bootstrap.servers": "localhost:9092"}


def test_a_broker_and_a_name_are_enough() -> None:
    """Everything else has a default that works."""
    config = Config(client_id="videos", kafka=KAFKA)

    assert (config.concurrency, config.commit_interval, config.shutdown_timeout, config.memory) == (5, 1, 60, 256 * MIB)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"client_id": ""}, ["App(client_id)", "''", "needs a name"]),
        ({"client_id": "  "}, ["App(client_id)", "'  '"]),
        ({"client_id": 7}, ["App(client_id)", "7"]),
        ({"kafka": {}}, ["bootstrap.servers", "localhost:9092"]),
        ({"kafka": {"bootstrap.servers": ""}}, ["bootstrap.servers", "localhost:9092"]),
        ({"kafka": "localhost:9092"}, ["App(kafka=…)", "str", "dict"]),
        ({"kafka": None}, ["App(kafka=…)", "NoneType", "dict"]),
        ({"kafka": KAFKA | {3: "x"}}, ["3", "names are text"]),
        ({"kafka": KAFKA | {"debug": ["all"]}}, ["'debug'", "['all']", "text, numbers and booleans"]),
        ({"concurrency": 0}, ["concurrency=0", "at least 1"]),
        ({"concurrency": "5"}, ["concurrency='5'", "number"]),
        ({"concurrency": True}, ["concurrency=True", "number"]),
        ({"concurrency": None}, ["concurrency=None", "number"]),
        ({"concurrency": 2.5}, ["concurrency=2.5"]),
        ({"commit_interval": 0}, ["commit_interval=0", "0.01"]),
        ({"commit_interval": float("nan")}, ["commit_interval=nan"]),
        ({"shutdown_timeout": -1}, ["shutdown_timeout=-1", "at least 0"]),
        ({"drain_timeout": -0.1}, ["drain_timeout=-0.1", "at least 0"]),
        ({"drain_timeout": float("nan")}, ["drain_timeout=nan"]),
        ({"memory": 1000}, ["memory=1000", "8388608"]),
        ({"start": "begin"}, ["App(start=…)", "'begin'", "'earliest' or 'latest'"]),
        ({"retry": 5}, ["App(retry=5)", "Backoff(1, 30)"]),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(values: dict[str, Any], words: list[str]) -> None:
    """With the thing, the value found, the way out."""
    with pytest.raises(ConfigError) as refused:
        Config(**({"client_id": "videos", "kafka": KAFKA} | values))

    text = str(refused.value)
    assert [word for word in words if word not in text] == []
    assert "\n" not in text


@pytest.mark.parametrize("name", OWNED)
def test_what_promises_stand_on_belongs_to_the_framework(name: str) -> None:
    """Setting one is refused with the way to what was meant."""
    with pytest.raises(ConfigError, match="belongs to the framework") as refused:
        Config(client_id="videos", kafka=KAFKA | {name: "x"})

    assert repr(name) in str(refused.value)
    assert OWNED[name] in str(refused.value)


@pytest.mark.parametrize("name", ["delivery.report.only.error", "transactional.id"])
def test_what_would_leave_messages_unconfirmed_is_refused_too(name: str) -> None:
    """Without a report no handle ends and no burial is confirmed; a transaction nobody begins refuses every message."""
    with pytest.raises(ConfigError, match="belongs to the framework"):
        Config(client_id="videos", kafka=KAFKA | {name: "true"})


SECRETS = [
    "sasl.password",
    "ssl.key.password",
    "ssl.keystore.password",
    "ssl.key.pem",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "SASL.PASSWORD",
]


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_are_never_shown(name: str) -> None:
    """Neither where settings are printed nor where one is refused."""
    assert masked({name: "hush"}) == {name: "********"}

    with pytest.raises(ConfigError) as refused:
        check_settings({name: ["hush"]}, "App(kafka=…)")
    assert "hush" not in str(refused.value)


def test_what_is_no_secret_is_shown() -> None:
    """A person looks for their mistake in it."""
    kafka: Settings = {"bootstrap.servers": "a:1", "sasl.username": "me", "ssl.key.location": "/k", "linger.ms": 5}

    assert masked(kafka) == kafka
