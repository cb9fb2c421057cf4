"""A stop of several processes: side by side, within the time-out, once; and the other signals, passed on."""

from __future__ import annotations

import os
import pty
import sys
import time
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, Signals

import psutil
import pytest

from tests.brokers import Running, new_topic, until
from tests.process.servers import PYTHON, Scene, app, committed, each, send, started
from tests.process.swarms import Swarm, alive, swarm
from tests.process.terminals import on_terminal
from tests.process.test_systemd import managed

SLOW = ("say('begun')", "time.sleep(3)", "say('done')")
STUCK = ("say('begun')", "time.sleep(600)")


@pytest.fixture
def scene(kafka: Running, tmp_path: Path) -> Scene:
    """A topic of two partitions: one for each of two processes."""
    return Scene(kafka.bootstrap, tmp_path, partitions=2)


def test_what_runs_in_each_is_waited_for_side_by_side(scene: Scene) -> None:
    """INT: all finish what runs and commit, status 0."""
    with swarm(scene.folder, scene.app(*SLOW)) as server:
        server.runs()
        scene.send("one", partition=0)
        scene.send("two", partition=1)
        server.until(lambda: server.heard.said.count("begun") == 2, "both are at it")
        began = time.monotonic()
        assert server.stop(SIGINT) == 0, str(server.heard)
        took = time.monotonic() - began

    print(f"two handlers of 3 s: stopped in {took:.2f} s")
    assert took < 5
    assert server.heard.said.count("done") == 2
    assert scene.committed == [1, 1]
    assert server.happened("swarm_stopping", reason="SIGINT")
    assert server.happened("swarm_stopped", status=0)
    assert [one["status"] for one in server.happened("process_ended")] == [0, 0]


@pytest.mark.parametrize("number", [SIGTERM, SIGQUIT])
def test_each_signal_stops_all(scene: Scene, number: Signals) -> None:
    with swarm(scene.folder, scene.app("pass")) as server:
        server.runs()
        began = time.monotonic()
        assert server.stop(number) == 0, str(server.heard)
        print(f"{number.name}: stopped in {time.monotonic() - began:.2f} s")

    assert not any("Traceback" in line or "ignored" in line for line in server.heard.told), str(server.heard)


def test_one_that_overran_makes_the_status_2(scene: Scene) -> None:
    """The other ends cleanly, and what ran on is named."""
    perform = ("say('begun')", "self.message.partition == 0 and time.sleep(600)")
    with swarm(scene.folder, scene.app(*perform, shutdown_timeout=1.0)) as server:
        server.runs()
        scene.send("one", partition=0)
        scene.send("two", partition=1)
        server.until(lambda: server.heard.said.count("begun") == 2, "both are at it")
        assert server.stop() == 2, str(server.heard)

    assert sorted(one["status"] for one in server.happened("process_ended")) == [0, 2]
    assert any(f"{scene.topic}/0/0" in str(one["unfinished"]) for one in server.happened("server_stopped"))
    assert scene.committed == [None, 1]


def test_a_second_signal_does_not_wait(scene: Scene) -> None:
    with swarm(scene.folder, scene.app(*STUCK)) as server:
        server.runs()
        scene.send("one", partition=0)
        scene.send("two", partition=1)
        server.until(lambda: server.heard.said.count("begun") == 2, "both are at it")
        server.signal(SIGINT)
        server.until(lambda: len(server.happened("server_stopping")) == 2, "both stop")
        began = time.monotonic()
        assert server.press(SIGINT) == 2, str(server.heard)
        took = time.monotonic() - began

    print(f"a second SIGINT: ended in {took:.2f} s")
    assert took < 4
    assert scene.committed == [None, None]


def test_those_that_are_told_by_others_too_stop_once(scene: Scene) -> None:
    """As systemd does, and whoever kills by name: what runs is waited for all the same."""
    with swarm(scene.folder, scene.app(*SLOW)) as server:
        server.runs()
        scene.send("one", partition=0)
        scene.send("two", partition=1)
        server.until(lambda: server.heard.said.count("begun") == 2, "both are at it")
        server.signal_all(SIGTERM)
        assert server.ended() == 0, str(server.heard)

    assert server.heard.said.count("done") == 2
    assert scene.committed == [1, 1]


def test_a_ctrl_c_in_the_terminal_reaches_the_supervisor_alone(scene: Scene) -> None:
    """It goes to the whole group of processes: they are in none with it."""
    with swarm(scene.folder, scene.app("pass")) as server:
        server.runs()
        groups = {os.getpgid(pid) for pid in server.pids}
        assert len(groups) == 2
        assert os.getpgid(server.process.pid) not in groups
        assert server.stop() == 0, str(server.heard)


def test_in_a_terminal_they_may_write_and_a_ctrl_c_stops_all_in_order(scene: Scene) -> None:
    """Also in one that stops what writes in its background (`stty tostop`), where they are."""
    (scene.folder / "app.py").write_text(scene.app("print('be' + 'gun')", "time.sleep(2)", "print('do' + 'ne')"))
    scene.send("one")
    with on_terminal(scene.folder, "server", "--processes", "2") as terminal:
        terminal.forbid_the_background()
        at = terminal.shows("begun")
        terminal.type("\x03")
        terminal.shows("done", after=at)
        assert terminal.ended() == 0, terminal.text
    assert scene.committed[0] == 1


# A session of its own, with that terminal; also where the tests themselves are to outlive theirs.
INSIDE = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.setsid()
os.open(sys.argv[1], os.O_RDWR)
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize("nohup", [(), ("nohup",)], ids=["", "nohup"])
def test_a_terminal_that_is_closed_stops_all(scene: Scene, nohup: tuple[str, ...]) -> None:
    """Its HUP is no wish for a restart, nobody would know what goes on; unless that was asked for."""
    (scene.folder / "app.py").write_text(scene.app("pass"))
    mine, theirs = pty.openpty()
    inside = [sys.executable, "-c", INSIDE, os.ttyname(theirs)]
    shell = ["/usr/bin/env", *nohup, *PYTHON, "-m", "karafka", "server", "--log-format", "json", "--processes", "2"]
    with started(Swarm(scene.folder, [*inside, *shell], {"XDG_RUNTIME_DIR": str(scene.folder)})) as server:
        server.runs()
        os.close(theirs)
        os.close(mine)
        if nohup:
            until(lambda: not has_terminal(server.process.pid))
            server.signal(SIGTTIN)
            server.event("stacks_shown", process=1)
            assert server.stop() == 0, str(server.heard)
        else:
            assert server.ended() == 0, str(server.heard)
        server.end_all()

    assert len(server.happened("swarm_stopping", reason="the terminal is gone")) == (0 if nohup else 1)
    assert len(server.pids) == 2


def has_terminal(pid: int) -> bool:
    return psutil.Process(pid).terminal() is not None


def test_a_signal_while_they_start_is_a_stop(scene: Scene) -> None:
    """Also while the app is imported, which may take long."""
    wait = "import threading\nif 'KARAFKA_TEST_SLOW' in os.environ and threading.active_count() > 1:\n"
    wait += "    say('importing')\n    time.sleep(600)\n"
    source = scene.app("pass") + wait
    with swarm(scene.folder, source, environment={"KARAFKA_TEST_SLOW": "1"}) as server:
        server.until(lambda: server.heard.said.count("importing") == 2, "both import the app")
        began = time.monotonic()
        assert server.stop() == 0, str(server.heard)
        took = time.monotonic() - began

    assert took < 5
    assert not any("Traceback" in line for line in server.heard.told), str(server.heard)


def test_a_signal_at_once_is_a_stop(scene: Scene) -> None:
    """Before the processes can take any: their interpreters have hardly begun."""
    with swarm(scene.folder, scene.app("pass")) as server:
        server.event("process_started", process=2)
        assert server.stop() == 0, str(server.heard)

    assert not any("Traceback" in line for line in server.heard.told), str(server.heard)


def test_one_that_dies_while_it_is_stopped(scene: Scene) -> None:
    """It is told, nothing takes its place, the others end in order, and the status says that something died."""
    with swarm(scene.folder, scene.app(*SLOW)) as server:
        server.runs()
        scene.send("one", partition=0)
        scene.send("two", partition=1)
        server.until(lambda: server.heard.said.count("begun") == 2, "both are at it")
        server.signal(SIGTERM)
        server.event("swarm_stopping")
        os.kill(server.pid(1), SIGKILL)
        assert server.ended() == 3, str(server.heard)

    assert len(server.pids) == 2
    assert server.heard.said.count("done") == 1
    assert sorted(filter(None, scene.committed)) == [1]


def test_quiet_is_passed_on(scene: Scene) -> None:
    """TSTP: all finish what runs, begin nothing new, keep their partitions."""
    with swarm(scene.folder, scene.app(*SLOW)) as server:
        server.runs()
        scene.send("one", "two", partition=0)
        scene.send("three", "four", partition=1)
        server.until(lambda: server.heard.said.count("begun") == 2, "both are at it")
        before = server.shares()
        server.signal(SIGTSTP)
        server.event("swarm_quiet")
        assert server.heard.said.count("done") == 2
        assert server.shares() == before
        assert server.stop() == 0, str(server.heard)

    assert server.heard.said.count("begun") == 2
    assert scene.committed == [1, 1]


def test_quiet_while_they_start_is_kept(scene: Scene) -> None:
    scene.send("one", partition=0)
    with swarm(scene.folder, scene.app(*SLOW)) as server:
        server.event("process_started", process=2)
        server.signal(SIGTSTP)
        server.event("swarm_quiet")
        assert server.stop() == 0, str(server.heard)

    assert server.heard.said == []
    assert scene.committed == [None, None]


def test_stacks_are_passed_on(scene: Scene) -> None:
    """TTIN: those of each, down to the handler that runs."""
    with swarm(scene.folder, scene.app(*SLOW)) as server:
        server.runs()
        scene.send("one", partition=0)
        scene.send("two", partition=1)
        server.until(lambda: server.heard.said.count("begun") == 2, "both are at it")
        server.signal(SIGTTIN)
        for process in (1, 2):
            assert "time.sleep(3)" in server.event("stacks_shown", process=process)["stacks"]
        assert server.stop() == 0, str(server.heard)


def test_systemd_hears_of_all_of_them_once(scene: Scene) -> None:
    """Ready when all run, stopping when all are told; no process speaks for itself."""
    with (
        managed(str(scene.folder / "notify")) as manager,
        swarm(scene.folder, scene.app("pass"), environment=manager.environment) as server,
    ):
        manager.hears("READY=1", timeout=60)
        assert len(server.happened("server_started")) == 2
        assert server.stop() == 0, str(server.heard)
        assert manager.all() == ["STOPPING=1"]


def test_nobody_is_left_when_the_supervisor_is_killed(scene: Scene) -> None:
    """Its processes notice, finish what runs, commit, and end in order."""
    with swarm(scene.folder, scene.app(*SLOW)) as server:
        server.runs()
        scene.send("one", "two", partition=0)
        scene.send("three", "four", partition=1)
        server.until(lambda: server.heard.said.count("begun") == 2, "both are at it")
        server.kill()
        until(lambda: not any(map(alive, server.pids)))

    assert server.heard.said.count("begun") == server.heard.said.count("done") == 2
    assert {one["process"] for one in server.happened("supervisor_gone")} == {1, 2}
    assert [one["status"] for one in server.happened("server_stopped")] == [0, 0]
    assert scene.committed == [1, 1]


def test_nobody_is_left_when_the_supervisor_is_killed_while_they_start(scene: Scene) -> None:
    with swarm(scene.folder, scene.app("pass")) as server:
        server.event("process_started", process=2)
        server.kill()
        until(lambda: not any(map(alive, server.pids)))


def test_a_stop_leaves_nothing_undone_of_several_groups(kafka: Running, tmp_path: Path) -> None:
    """Each process is a full server: all groups, all topics."""
    first, second = new_topic(kafka.bootstrap, 2), new_topic(kafka.bootstrap, 2)
    group, other = f"{first}-a", f"{first}-b"
    body = each(first, "say('first')")
    body += f"\n@app.topic({second!r}, group={other!r})\nclass Other(Controller):\n"
    body += "    async def perform(self):\n        say('second')\n"
    with swarm(tmp_path, app(kafka.bootstrap, group, body)) as server:
        server.runs()
        for partition in (0, 1):
            send(kafka.bootstrap, first, range(10), partition)
            send(kafka.bootstrap, second, range(10), partition)
        server.until(lambda: len(server.heard.said) == 40, "all is performed")
        assert server.stop() == 0, str(server.heard)

    assert committed(kafka.bootstrap, group, first, 2) == [10, 10]
    assert committed(kafka.bootstrap, other, second, 2) == [10, 10]
