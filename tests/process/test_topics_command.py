"""`karafka topics`: which declared topics are missing on real Kafka, and making them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType

from karafka.devbroker import ports
from tests.brokers import Running, new_group, new_topic
from tests.process.servers import run
from tests.secured import Secured, sees

SHOP = """\
import re
from karafka import *
app = App({group!r}, kafka={kafka!r})

@app.topic({there!r})
@app.topic({missing!r}, dead_letter=DeadLetter({dead!r}))
@app.topic(re.compile({prefix!r} + "-.*"))
class Each(Controller):
    def perform(self): pass
"""


class Shop:
    """An app in a folder with a topic that is there, one that is not, and one for its dead letters."""

    def __init__(self, bootstrap: str, folder: Path, kafka: Mapping[str, object]) -> None:
        self.folder, self.prefix = folder, f"shop-{uuid4().hex[:8]}"
        self.there, self.missing, self.dead = (f"{self.prefix}-{end}" for end in ("there", "missing", "dead"))
        new_topic(bootstrap, 2, name=self.there)
        (folder / "app.py").write_text(
            SHOP.format(
                group=new_group(),
                kafka=dict(kafka),
                there=self.there,
                missing=self.missing,
                dead=self.dead,
                prefix=self.prefix,
            )
        )

    def states(self, *arguments: str) -> tuple[int, dict[str, tuple[str, int | None]]]:
        """Exit status, state and partitions of each, as `karafka topics --json` tells them."""
        status, said, _ = run(self.folder, "topics", "--json", *arguments)
        rows: list[dict[str, Any]] = json.loads(said)
        return status, {row["topic"]: (row["state"], row["partitions"]) for row in rows if row["state"] != "pattern"}


@pytest.fixture
def shop(kafka: Running, tmp_path: Path) -> Shop:
    return Shop(kafka.bootstrap, tmp_path, {"bootstrap.servers": kafka.bootstrap})


def test_what_is_missing_is_shown_with_status_1(shop: Shop) -> None:
    """Looking makes none, though this broker makes topics for producers that name them."""
    for _ in range(2):
        status, said, told = run(shop.folder, "topics")

        rows = {line.split()[0]: line.split()[1:4] for line in said.splitlines()[1:]}
        assert status == 1
        assert rows[shop.there] == ["there", "2", "1"]
        assert rows[shop.missing] == rows[shop.dead] == ["missing", "-", "-"]
        assert rows[f"{shop.prefix}-.*"][:2] == ["1", "match"]
        assert told == "2 topics are missing: karafka topics --create makes them."


def test_they_are_made_on_demand(shop: Shop) -> None:
    """As told, those that are chosen, dead letters' too; what is there stays as it is, and the next look finds all."""
    first = shop.states("--create", "--topic", shop.missing, "--partitions", "3")
    second = shop.states("--create", "--topic", "*-dead", "--partitions", "1")

    assert first == (0, {shop.missing: ("created", 3)})
    assert second == (0, {shop.dead: ("created", 1)})
    assert (
        shop.states("--create", "--partitions", "7")
        == shop.states()
        == (
            0,
            {shop.dead: ("there", 1), shop.missing: ("there", 3), shop.there: ("there", 2)},
        )
    )


def test_a_topic_that_is_not_declared_is_said_so(shop: Shop) -> None:
    status, said, told = run(shop.folder, "topics", "--create", "--topic", "nope")

    assert (status, said) == (1, "")
    assert told.startswith("karafka: --topic 'nope': no topic is named so; there are ")
    assert shop.dead in told


def test_settings_of_what_is_made(shop: Shop, kafka: Running) -> None:
    assert shop.states("--create", "--config", "cleanup.policy=compact", "--config", "retention.ms=60000")[0] == 0

    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    resource = ConfigResource(ResourceType.TOPIC, shop.missing)
    found = admin.describe_configs([resource])[resource].result(30)
    assert (found["cleanup.policy"].value, found["retention.ms"].value) == ("compact", "60000")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--replicas", "7"), "replication factor"),
        (("--config", "no.such.setting=1"), "no.such.setting"),
    ],
)
def test_what_cannot_be_made_says_why(shop: Shop, arguments: tuple[str, str], said: str) -> None:
    status, _, told = run(shop.folder, "topics", "--create", *arguments)

    assert status == 1
    assert [line.startswith("karafka: topic ") for line in told.splitlines()] == [True, True]
    assert all(said in line for line in told.splitlines()), told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--partitions", "3"), "add --create"),
        (("--create", "--config", "retention.ms"), "NAME=VALUE is expected"),
        (("--create", "--partitions", "0"), "--partitions"),
    ],
)
def test_options_that_say_nothing_are_refused(shop: Shop, arguments: tuple[str, ...], said: str) -> None:
    status, _, told = run(shop.folder, "topics", *arguments)

    assert status == 2
    assert said in told


def test_a_cluster_that_does_not_answer_is_one_sentence(tmp_path: Path, kafka: Running) -> None:
    gone = f"127.0.0.1:{ports.free()}"
    shop = Shop(kafka.bootstrap, tmp_path, {"bootstrap.servers": gone})

    status, said, told = run(shop.folder, "topics", "--timeout", "1")

    assert (status, said) == (1, "")
    assert told.startswith(f"karafka: no broker answers at {gone} (Connection refused)")
    assert len(told.splitlines()) == 1


@pytest.mark.xdist_group("secured")
def test_who_may_not_make_topics_is_told_so(secured: Secured, tmp_path: Path) -> None:
    user = secured.user()
    shop = Shop(secured.open, tmp_path, secured.scram(user))
    secured.allow(sees(user, shop.there))

    status, states = shop.states()
    refused, _, told = run(shop.folder, "topics", "--create")

    assert (status, states[shop.there]) == (1, ("there", 2))
    assert refused == 1
    assert told.count("cannot be made") == 2
    assert "uthorization" in told
