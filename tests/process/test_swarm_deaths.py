"""Processes that die, hang, or are told to go when they are old: others take their places, and the work goes on."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from signal import SIGKILL, SIGSTOP, SIGTERM

import psutil
import pytest
from confluent_kafka.admin import AdminClient

from tests.brokers import Running, until
from tests.process.servers import PYTHON, Scene, started
from tests.process.swarms import alive, swarm
from tests.process.test_pid1 import UNSHARE, Contained


@pytest.fixture
def scene(kafka: Running, tmp_path: Path) -> Scene:
    return Scene(kafka.bootstrap, tmp_path, partitions=2)


def done(scene: Scene) -> str:
    """An app that says each payload; its sessions are short, so that one that was killed is missed soon."""
    return scene.app("say(self.message.partition, self.params)")


def test_one_that_is_killed_is_replaced_and_its_work_goes_on(scene: Scene) -> None:
    with swarm(scene.folder, done(scene)) as server:
        server.runs()
        os.kill(server.pid(1), SIGKILL)
        died = server.event("process_died", process=1)
        assert "SIGKILL" in died["error"]
        server.replaced(1)
        for partition in (0, 1):
            scene.send(*range(10), partition=partition)
        server.until(lambda: len(server.heard.said) >= 20, "all is performed")
        assert server.stop() == 0, str(server.heard)

    assert sorted(server.heard.said) == sorted(f"{partition} {n}" for partition in (0, 1) for n in range(10))
    assert scene.committed == [10, 10]


def test_one_that_is_stopped_by_hand_is_replaced(scene: Scene) -> None:
    """So a single process is restarted: in order."""
    with swarm(scene.folder, done(scene)) as server:
        server.runs()
        os.kill(server.pid(2), SIGTERM)
        assert server.event("process_died", process=2)["status"] == 0
        server.replaced(2)
        assert server.happened("server_stopped", process=2, status=0)
        assert server.stop() == 0, str(server.heard)


def test_those_that_die_at_once_are_started_ever_later(scene: Scene) -> None:
    """And the other goes on."""
    dies = "\nif Path('dies').exists() and 'karafka-link' in [t.name for t in __import__('threading').enumerate()]:\n"
    dies += "    os.kill(os.getpid(), signal.SIGKILL)\n"
    with swarm(scene.folder, done(scene) + dies) as server:
        server.runs()
        (scene.folder / "dies").touch()
        os.kill(server.pid(1), SIGKILL)
        server.event("process_died", process=1, after=4.0, timeout=60)
        afters = [one["after"] for one in server.happened("process_died")]
        assert afters[-3:] == [1.0, 2.0, 4.0]
        for partition in (0, 1):
            scene.send(7, partition=partition)
        server.until(lambda: len(server.heard.said) == 2, "the other performs all")
        began = time.monotonic()
        assert server.stop() == 0, str(server.heard)
        assert time.monotonic() - began < 3  # the one that waits to be started is not waited for


@pytest.mark.parametrize("why", ["setup", "cluster"])
def test_what_is_configured_wrong_ends_all_with_status_1(scene: Scene, why: str) -> None:
    """Not again and again: the sentence is there, and whoever started it may see that it has ended."""
    if why == "setup":
        setup = "    @classmethod\n    def setup(cls, app):\n        raise SystemExit(1)\n\n"
        source = done(scene).replace("    def perform", setup + "    def perform")
    else:
        refused = {"security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN", "sasl.username": "me"}
        source = scene.app("pass", kafka={**refused, "sasl.password": "wrong"})
    with swarm(scene.folder, source) as server:
        assert server.ended(timeout=60) == 1, str(server.heard)

    assert server.happened("swarm_stopped", status=1)
    assert len(server.pids) == 2


def test_one_that_stands_still_is_killed_and_replaced(scene: Scene) -> None:
    """It says nothing any more; its work goes on in others."""
    with swarm(scene.folder, done(scene), "--hang-after", "3s") as server:
        server.runs()
        frozen = server.pid(1)
        os.kill(frozen, SIGSTOP)
        began = time.monotonic()
        hung = server.event("process_hung", process=1)
        print(f"noticed after {time.monotonic() - began:.1f} s")
        assert hung["pid"] == frozen
        assert "nothing was heard of it" in hung["error"]
        server.replaced(1)
        assert not alive(frozen)
        for partition in (0, 1):
            scene.send(7, partition=partition)
        server.until(lambda: len(server.heard.said) == 2, "all is performed")
        assert server.stop() == 0, str(server.heard)


def test_one_that_holds_the_gil_is_killed_with_its_stacks(scene: Scene) -> None:
    """Nothing of Python's runs in it any more; the interpreter itself says where it stands."""
    perform = ("import ctypes", "say('holds it')", "ctypes.PyDLL(None).sleep(600)")
    with swarm(scene.folder, scene.app(*perform), "--hang-after", "3s") as server:
        server.runs()
        (scene.folder / "app.py").write_text(scene.app("say('done')"))
        scene.send(7, partition=0)
        server.says("holds it")
        hung = server.event("process_hung")
        assert "in perform" in hung["stacks"]
        assert "app.py" in hung["stacks"]
        server.says("done", timeout=60)
        assert server.stop() == 0, str(server.heard)


def test_a_listener_that_does_not_get_on_is_noticed(scene: Scene) -> None:
    """The process reports, but nothing is polled any more."""
    body = (
        "\nfrom karafka.events import Assigned\n"
        "def stand(event):\n    while Path('stand').exists() and event.starts: time.sleep(0.1)\n"
        "app.events.on(Assigned, stand)\n"
    )
    (scene.folder / "stand").touch()
    with swarm(scene.folder, done(scene) + body, "--hang-after", "3s") as server:
        hung = server.event("process_hung", timeout=60)
        (scene.folder / "stand").unlink()
        assert "listener" in hung["error"]
        assert "in stand" in hung["stacks"]
        for partition in (0, 1):
            scene.send(7, partition=partition)
        server.until(lambda: len(server.heard.said) == 2, "all is performed", 60)
        assert server.stop() == 0, str(server.heard)


def test_a_handler_that_is_merely_long_is_left_alone(scene: Scene) -> None:
    perform = ("say('begun')", "time.sleep(8)", "say('done')")
    with swarm(scene.folder, scene.app(*perform), "--hang-after", "2s") as server:
        server.runs()
        scene.send("one", partition=0)
        server.says("done")
        assert server.stop() == 0, str(server.heard)

    assert server.heard.said == ["begun", "done"]
    assert server.happened("process_hung") == []
    assert scene.committed == [1, None]


@pytest.mark.parametrize("wait", ["time.sleep(600)", "await asyncio.sleep(600)"], ids=["thread", "event loop"])
def test_unless_its_age_is_bounded(scene: Scene, wait: str) -> None:
    """Then its process is killed, and the message is performed by another."""
    perform = ("say('begun')", f"if not Path('open').exists(): {wait}", "say('done')")
    source = scene.app(*perform, asynchronous="await" in wait)
    with swarm(scene.folder, source, "--max-handler-age", "2s") as server:
        server.runs()
        scene.send("one", partition=0)
        server.says("begun")
        hung = server.event("process_hung")
        (scene.folder / "open").touch()
        assert "--max-handler-age" in hung["error"]
        server.says("done")
        assert server.stop() == 0, str(server.heard)

    assert scene.committed == [1, None]


def test_those_that_are_old_are_replaced_one_by_one_in_order(scene: Scene) -> None:
    with swarm(scene.folder, done(scene), "--max-age", "12s") as server:
        server.runs()
        server.replaced(1)
        server.replaced(2)
        assert server.stop() == 0, str(server.heard)

    reasons = [one["reason"] for one in server.happened("process_outdated")]
    assert all("--max-age" in reason for reason in reasons)
    assert {one["status"] for one in server.happened("process_ended")} == {0}
    assert server.happened("process_died") == []
    events = [one["event"] for one in server.heard.events if one["event"] in {"process_outdated", "process_ended"}]
    assert events[:3] == ["process_outdated", "process_ended", "process_outdated"]


def test_those_that_grew_are_replaced_in_order(scene: Scene) -> None:
    perform = ("say('begun')", "globals().setdefault('kept', bytearray(self.params))", "say('done')")
    with swarm(scene.folder, scene.app(*perform), "--max-memory", "200MB") as server:
        server.runs()
        scene.send(300_000_000, partition=0)
        server.says("done")
        outdated = server.event("process_outdated")
        assert "--max-memory" in outdated["reason"]
        server.replaced(outdated["process"])
        server.event("process_ended", process=outdated["process"], status=0)
        assert server.stop() == 0, str(server.heard)

    assert scene.committed == [1, None]
    assert len(server.happened("process_outdated")) == 1


def test_a_name_of_its_own_outlives_a_process(scene: Scene) -> None:
    """Whoever takes a place takes its partitions, and the group does not notice."""
    source = scene.app("say(self.message.partition, self.params)", kafka={"session.timeout.ms": 45_000})
    with swarm(scene.folder, source, "--static-membership") as server:
        server.runs()
        before, moves = server.shares(), len(server.happened("revoked"))
        os.kill(server.pid(1), SIGKILL)
        server.replaced(1)
        server.shared(1)
        assert server.shares() == before
        assert len(server.happened("revoked")) == moves
        for partition in (0, 1):
            scene.send(7, partition=partition)
        server.until(lambda: len(server.heard.said) == 2, "all is performed")
        names = members(scene)
        assert server.stop() == 0, str(server.heard)

    assert names == {f"{scene.group}-{socket.gethostname()}-{number}" for number in (1, 2)}


def members(scene: Scene) -> set[str | None]:
    """The names by which the group knows its members."""
    admin = AdminClient({"bootstrap.servers": scene.bootstrap, "log_level": 0})
    described = admin.describe_consumer_groups([scene.group])[scene.group].result(30)
    return {one.group_instance_id for one in described.members}


def test_as_process_1_of_a_container_it_leaves_no_zombie(scene: Scene) -> None:
    """It inherits the children of those that died, stops in order, and takes every signal."""
    source = scene.app("os.posix_spawn('/bin/sleep', ['sleep', '1'], os.environ)", "os._exit(5)")
    (scene.folder / "app.py").write_text(source)
    command = [*UNSHARE, *PYTHON, "-m", "karafka", "server", "--log-format", "json", "--processes", "2"]
    with started(Contained(scene.folder, command, {"XDG_RUNTIME_DIR": str(scene.folder)})) as server:
        server.event("swarm_started", 60)
        scene.send("one", partition=0)
        server.event("process_died", status=5, timeout=60)
        (first,) = psutil.Process(server.process.pid).children()
        mine = {"karafka", "python", "python3"}
        until(lambda: all(any(name in one.name() for name in mine) for one in first.children()))
        server.signal(SIGTERM)
        server.ended(timeout=60)

    assert server.happened("swarm_stopped")
