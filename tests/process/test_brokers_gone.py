"""A cluster that cannot be reached is said once and waited for; when it is there all goes on, and nothing was lost."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from karafka.devbroker import Kafka, ports
from tests.brokers import new_group, new_topic, until
from tests.process.servers import Server, app, committed, each, send, serve
from tests.process.test_rebalance import Flow
from tests.process.troubles import loud, tells, told
from tests.secured import PATIENCE, Secured, Settings, address, joins, reads

# Seconds that a cluster is away here.
MINUTE = 60.0
SETTINGS = {"auto.create.topics.enable": "false"}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Kafka]:
    """A Kafka that this test may stop, with a port of its own even before it is started."""
    kafka = Kafka(tmp_path / "kafka", settings=SETTINGS)
    try:
        kafka.start(patience=PATIENCE)
        yield kafka
    finally:
        kafka.stop()


@contextmanager
def mute(port: int) -> Iterator[None]:
    """Something that takes connections and says nothing."""
    with socket.create_server((ports.HOST, port)):
        yield


def small(bootstrap: str, topic: str, kafka: Mapping[str, object] | None = None) -> str:
    return app(bootstrap, new_group(), each(topic, "say('done', self.params)"), kafka=kafka)


def performs(server: Server, own: Kafka, topic: str) -> None:
    """What was sent before and what is sent now is performed, in order; it stops with status 0."""
    send(own.bootstrap, topic, [1])
    server.says("done 1", timeout=60)
    assert server.stop() == 0, str(server.heard)
    assert server.heard.said == ["done 0", "done 1"]


# ── at the start ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_nobody_answers_until_somebody_does(own: Kafka, tmp_path: Path) -> None:
    topic = new_topic(own.bootstrap)
    send(own.bootstrap, topic, [0])
    own.stop()
    with serve(tmp_path, small(own.bootstrap, topic)) as server:
        tells(server, own.bootstrap, "no broker answers", "bootstrap.servers")
        own.start(patience=PATIENCE)
        performs(server, own, topic)
        told(server, own.bootstrap)


def test_what_answers_says_nothing_until_it_is_kafka(own: Kafka, tmp_path: Path) -> None:
    topic = new_topic(own.bootstrap)
    send(own.bootstrap, topic, [0])
    own.stop()
    with serve(tmp_path, small(own.bootstrap, topic)) as server:
        with mute(int(own.bootstrap.split(":")[1])):
            tells(server, own.bootstrap, "Kafka", "security.protocol")
        own.start(patience=PATIENCE)
        performs(server, own, topic)


def test_a_name_that_does_not_resolve(tmp_path: Path) -> None:
    with serve(tmp_path, small("kafka.invalid:9092", "videos")) as server:
        tells(server, "kafka.invalid", "resolve", "bootstrap.servers")
        assert server.stop() == 0, str(server.heard)


@pytest.mark.parametrize("door", ["sasl", "tls"])
def test_a_door_with_a_lock_and_a_client_without_a_key(secured: Secured, tmp_path: Path, door: str) -> None:
    """The connection is closed without a word: a broker without its key and one that is starting look the same."""
    bootstrap = str(getattr(secured, door))
    with serve(tmp_path, small(bootstrap, "videos")) as server:
        tells(server, bootstrap, "Kafka", "security.protocol")
        assert server.stop() == 0, str(server.heard)


def test_groups_say_it_once_together(tmp_path: Path) -> None:
    """The cluster is away for the process, not for each of its groups."""
    bootstrap = address(ports.free())
    body = each("videos", "pass") + 'app.routes.draw(group("others", topic("clicks", Each)))\n'
    with serve(tmp_path, app(bootstrap, new_group(), body)) as server:
        tells(server, bootstrap, "no broker answers")
        assert server.stop() == 0, str(server.heard)


# ── later ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.timeout(400)
@pytest.mark.parametrize("how", ["killed for a minute", "restarted"])
def test_gone_and_back(own: Kafka, tmp_path: Path, how: str) -> None:
    # Sessions longer than a commit waits for its answer, and shorter than the minute.
    flow = Flow(own.bootstrap, tmp_path, {"session.timeout.ms": 25_000}, rate=200)
    with flow.consumer(0, "fast").served() as server:
        server.assigned()
        flow.feeder.start()
        flow.works(server, 0, 400)
        if how == "restarted":
            own.stop()
        else:
            own.kill()
            began = time.monotonic()
            tells(server, "no broker answers", own.bootstrap, besides=("lost", "commit_failed"))
            until(lambda: time.monotonic() > began + MINUTE, timeout=2 * MINUTE)
        own.start(patience=PATIENCE)
        began = time.monotonic()
        flow.works(server, 0, 400, timeout=120)
        print(f"{how}: at work again {time.monotonic() - began:.1f} s after the broker")
        server.event("client_recovered")
        sent = flow.feeder.stop()
        server.until(lambda: flow.tail.reached(sent), "the last message performed", timeout=60)
        told(server, "no broker answers", besides=("lost", "commit_failed"))
        assert len(server.happened("commit_failed")) <= 1, str(server.heard)
        assert server.stop() == 0, str(server.heard)
    flow.complete(sent)


@pytest.mark.timeout(300)
def test_a_password_that_is_changed_and_changed_back(secured: Secured, tmp_path: Path) -> None:
    """While it works a refusal may be a change on its way through the cluster: it is waited for."""
    user, topic, group = secured.user(), new_topic(secured.open), new_group()
    secured.allow(reads(user, topic), joins(user, group))
    send(secured.open, topic, [0])
    with serve(
        tmp_path, app(secured.sasl, group, each(topic, "say('done', self.params)"), kafka=secured.scram(user))
    ) as server:
        server.says("done 0")
        secured.password(user, "other")
        tells(server, f"'{user}'", "sasl.password", besides=("lost", "commit_failed"))
        secured.password(user, "right")
        send(secured.open, topic, [1])
        server.says("done 1", timeout=60)
        until(lambda: committed(secured.open, group, topic) == [2])
        told(server, f"'{user}'", besides=("lost", "commit_failed"))
        assert server.stop() == 0, str(server.heard)
    assert server.heard.said == ["done 0", "done 1"]


@pytest.mark.timeout(300)
def test_a_certificate_that_is_changed_and_changed_back(tmp_path: Path) -> None:
    with Secured(tmp_path / "secured") as kafka:
        topic, group = new_topic(kafka.open), new_group()
        send(kafka.open, topic, [0])
        settings: Settings = kafka.over_tls(kafka.authority)
        with serve(tmp_path, app(kafka.tls, group, each(topic, "say('done', self.params)"), kafka=settings)) as server:
            server.says("done 0")
            kafka.certify(kafka.stranger)
            kafka.kafka.stop()
            kafka.kafka.start(patience=PATIENCE)
            server.until(lambda: bool(about_certificates(server)), "a word about the certificate", timeout=60)
            kafka.certify(kafka.authority)
            kafka.kafka.stop()
            kafka.kafka.start(patience=PATIENCE)
            send(kafka.open, topic, [1])
            server.says("done 1", timeout=60)
            assert server.stop() == 0, str(server.heard)
        assert server.heard.said == ["done 0", "done 1"]
        assert len(about_certificates(server)) == 1, str(server.heard)


def about_certificates(server: Server) -> list[str]:
    return [line for line in loud(server) if "certificate" in line]
