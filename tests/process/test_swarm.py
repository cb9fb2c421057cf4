"""`karafka server --processes N`: several full servers in the same groups, each line of the log saying whose it is."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from signal import SIGHUP

import psutil
import pytest

from tests.brokers import Running
from tests.process.servers import PYTHON, Scene, Server, app, each, run, started
from tests.process.swarms import Swarm, alive, swarm


@pytest.fixture
def scene(kafka: Running, tmp_path: Path) -> Scene:
    """A topic of four partitions."""
    return Scene(kafka.bootstrap, tmp_path, partitions=4)


WHO = ("say(os.getpid(), self.message.partition, self.params)",)


def test_they_share_the_work(scene: Scene) -> None:
    """Each is a process of its own with a share of the partitions; all is performed once, in order, and committed."""
    with swarm(scene.folder, scene.app(*WHO), processes=3) as server:
        server.runs(3)
        for partition in range(4):
            scene.send(*range(5), partition=partition)
        server.until(lambda: len(server.heard.said) == 20, "all is performed")
        assert server.stop() == 0, str(server.heard)

    said = [line.split() for line in server.heard.said]
    assert len({pid for pid, _, _ in said}) == 3
    assert str(server.process.pid) not in {pid for pid, _, _ in said}
    for partition in range(4):
        assert [(int(n)) for _, place, n in said if place == str(partition)] == list(range(5))
    assert scene.committed == [5, 5, 5, 5]


def test_the_app_may_say_how_many(scene: Scene) -> None:
    """The command has the last word."""
    source = scene.app(*WHO, processes=2)
    with swarm(scene.folder, source, processes=3) as server:
        server.runs(3)
        assert server.stop() == 0, str(server.heard)
    with started(Swarm(scene.folder, [*PYTHON, "-m", "karafka", "server", "--log-format", "json"], {})) as server:
        server.runs(2)
        assert server.stop() == 0, str(server.heard)
        server.end_all()


def test_one_is_a_plain_server(scene: Scene) -> None:
    """No supervisor, and nothing of one."""
    scene.send(7)
    source = scene.app(*WHO, processes=2)
    (scene.folder / "app.py").write_text(source)
    command = [*PYTHON, "-X", "importtime", "-m", "karafka", "server", "--processes", "1", "--log-format", "json"]
    with started(Server(scene.folder, command, {})) as server:
        server.until(lambda: len(server.heard.said) == 1, "it is performed")
        assert psutil.Process(server.process.pid).children() == []
        assert server.stop() == 0, str(server.heard)

    assert server.heard.said == [f"{server.process.pid} 0 7"]
    imported = " ".join(line for line in server.heard.told if line.startswith("import time"))
    assert "karafka.server" in imported
    assert not re.search(r"karafka\.(swarm|supervisor|child|link|reports|runtime)", imported)
    assert not any("process" in event for event in server.heard.events)


def test_each_line_of_the_log_says_whose_it_is(scene: Scene) -> None:
    (scene.folder / "app.py").write_text(scene.app("import logging", "logging.warning('mine')"))
    command = [*PYTHON, "-m", "karafka", "server", "--processes", "2"]
    with started(Swarm(scene.folder, command, {"XDG_RUNTIME_DIR": str(scene.folder)})) as server:
        server.until(lambda: sum("assigned" in line for line in server.heard.told) >= 2, "both are there")
        scene.send("one")
        server.until(lambda: any("mine" in line for line in server.heard.told), "it is performed")
        assert server.stop() == 0, str(server.heard)

    text = "\n".join(server.heard.told)
    for number in (1, 2):
        assert re.search(rf"^\d\d:\d\d:\d\d INFO    \[{number}\] .* started: ", text, re.MULTILINE)
    assert re.search(r"^\S+ WARNING \[[12]\] mine$", text, re.MULTILINE)
    assert re.search(r"^\S+ INFO    process 2 started, pid \d+$", text, re.MULTILINE)


def test_what_they_print_comes_unchanged(scene: Scene) -> None:
    """Bytes and all, to stdout and to stderr."""
    perform = ("os.write(1, b'to out\\n')", "sys.stderr.write('to err\\n')")
    scene.send("one")
    with swarm(scene.folder, scene.app(*perform)) as server:
        server.says("to out")
        server.until(lambda: "to err" in server.heard.told, "the line on stderr")
        assert server.stop() == 0, str(server.heard)


def test_they_are_started_as_the_supervisor_was(scene: Scene) -> None:
    """With its interpreter, its flags, its arguments and its folder; what is between them is not for others."""
    (scene.folder / "shop").mkdir()
    perform = (
        "import json",
        "say(json.dumps([sys.orig_argv, os.getcwd(), sorted(os.environ), os.getpgrp()]))",
    )
    source = scene.app(*perform).replace("app", "mine")
    scene.send("one")
    (scene.folder / "shop" / "main.py").write_text(source)
    with swarm(scene.folder, "", "-A", "shop.main:mine", environment={"NOTIFY_SOCKET": "@nobody"}) as server:
        server.until(lambda: bool(server.heard.said), "it is performed")
        command, folder, environment, group = json.loads(server.heard.said[0])
        assert command[1:] == psutil.Process(server.process.pid).cmdline()[1:]
        assert folder == str(scene.folder)
        assert "KARAFKA_PROCESS" not in environment
        assert "NOTIFY_SOCKET" not in environment
        assert group in {server.pid(1), server.pid(2)}  # the terminal's Ctrl-C is not for them
        assert server.stop() == 0, str(server.heard)


def test_they_start_where_the_shell_thinks_it_is(scene: Scene) -> None:
    """A folder that is a link to a release leads to the next one after a restart."""
    old, new, current = (scene.folder / name for name in ("old", "new", "current"))
    old.mkdir()
    new.mkdir()
    (new / "app.py").write_text(scene.app("say('new')"))
    current.symlink_to(old)
    with swarm(old, scene.app("say('old')"), environment={"PWD": str(current)}) as server:
        server.runs()
        current.unlink()
        current.symlink_to(new)
        server.signal(SIGHUP)
        server.event("swarm_restarted", 90)
        scene.send("one")
        server.says("new")
        assert server.stop() == 0, str(server.heard)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--processes", "0"), 2, "0 is not in the range"),
        (("--processes", "many"), 2, "many"),
        (("--processes", "2", "--max-age", "old"), 2, "90s, 10m or 6h"),
        (("--processes", "2", "--max-memory", "lots"), 2, "512MB or 2GiB"),
        (("--static-membership",), 1, "--static-membership is for several processes: add --processes 2"),
        (("--max-memory", "512MB"), 1, "--max-memory is for several processes"),
        (("--embedded", "--processes", "2"), 1, "karafka broker"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...], status: int, words: str
) -> None:
    (tmp_path / "app.py").write_text(app("localhost:1", "group", each("t", "pass")))
    found, _, told = run(tmp_path, "server", *arguments)

    assert found == status, told
    assert words in " ".join(told.split())
    assert "Traceback" not in told


def test_one_name_for_all_is_refused(tmp_path: Path) -> None:
    """They would throw each other out of the group."""
    named = app("localhost:1", "g", each("t", "pass"), kafka={"group.instance.id": "me"})
    (tmp_path / "app.py").write_text(named)
    status, _, told = run(tmp_path, "server", "--processes", "2")

    assert status == 1
    assert "--static-membership" in told
    assert told.count("\n") == 0


def test_nothing_is_left_open_by_those_that_come_and_go(scene: Scene) -> None:
    """No process that nobody waited for, no file descriptor."""
    with swarm(scene.folder, scene.app("pass")) as server:
        server.runs()
        supervisor = psutil.Process(server.process.pid)
        before = supervisor.num_fds()
        for times in range(1, 4):
            os.kill(server.pid(1), 9)
            server.replaced(1, times)
        server.event("server_started", process=1)
        assert supervisor.num_fds() == before
        assert len(supervisor.children()) == 2
        assert sum(map(alive, server.pids)) == 2
        assert server.stop() == 0, str(server.heard)
