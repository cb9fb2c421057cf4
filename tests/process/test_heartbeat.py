"""Who watches a server from outside hears that it gets on: by the age of a file, or as systemd's watchdog does."""

from __future__ import annotations

import time
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest

from tests.brokers import Running, until
from tests.process.servers import Scene, run, serve
from tests.process.swarms import swarm
from tests.process.test_systemd import managed

STANDS = (
    "\nfrom karafka.events import Assigned\n"
    "def stand(event):\n    while Path('stand').exists() and event.starts: time.sleep(0.05)\n"
    "app.events.on(Assigned, stand)\n"
)


@pytest.fixture
def scene(kafka: Running, tmp_path: Path) -> Scene:
    return Scene(kafka.bootstrap, tmp_path)


def age(file: Path) -> float:
    return time.time() - file.stat().st_mtime


def renewed(file: Path) -> None:
    """Wait until it is younger than it was."""
    was = file.stat().st_mtime
    until(lambda: file.stat().st_mtime > was, timeout=30)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_file_is_there_while_the_server_works(scene: Scene, processes: int) -> None:
    """Not before it is ready, and not after its end; one that a killed server left is taken away first."""
    alive = scene.folder / "alive"
    alive.touch()
    setup = (
        "    @classmethod\n    def setup(cls, app):\n        print('setting up')\n"
        "        while not Path('open').exists(): time.sleep(0.01)\n\n"
    )
    source = scene.app("pass").replace("    def perform", f"{setup}    def perform")
    with swarm(scene.folder, source, "--alive-file", "alive", processes=processes) as server:
        server.says("setting up")
        assert not alive.exists()
        (scene.folder / "open").touch()
        until(alive.exists, timeout=60)
        renewed(alive)
        assert age(alive) < 5
        assert server.stop() == 0, str(server.heard)

    assert not alive.exists()


def test_the_file_grows_old_with_a_listener_that_does_not_get_on(scene: Scene) -> None:
    """Though the process as such is well, and touches it: as old as the turn that does not end."""
    alive = scene.folder / "alive"
    (scene.folder / "stand").touch()
    with serve(scene.folder, scene.app("pass") + STANDS, "--alive-file", "alive") as server:
        server.event("late", what=f"the listener of {scene.group!r}")
        until(lambda: age(alive) > 6, timeout=30)
        (scene.folder / "stand").unlink()
        until(lambda: age(alive) < 1, timeout=30)
        assert server.stop() == 0, str(server.heard)


def test_the_file_grows_old_with_a_process_that_stands_still(scene: Scene) -> None:
    alive = scene.folder / "alive"
    with serve(scene.folder, scene.app("pass"), "--alive-file", "alive") as server:
        until(alive.exists, timeout=30)
        server.signal(SIGSTOP)
        until(lambda: age(alive) > 6, timeout=30)
        server.signal(SIGCONT)
        until(lambda: age(alive) < 1, timeout=30)
        assert server.stop() == 0, str(server.heard)


def test_the_file_stays_young_while_a_handler_takes_long_and_no_broker_answers(scene: Scene) -> None:
    """Neither is mended by a restart."""
    alive = scene.folder / "alive"
    scene.send(0)
    source = scene.app("print('begun')", "while not Path('open').exists(): time.sleep(0.01)")
    gone = scene.app("pass").replace(scene.bootstrap, "localhost:1")
    with serve(scene.folder, source, "--alive-file", "alive") as server:
        server.says("begun")
        renewed(alive)
        assert age(alive) < 2
        (scene.folder / "open").touch()
        assert server.stop() == 0, str(server.heard)
    with serve(scene.folder, gone, "--alive-file", "alive") as server:
        until(alive.exists, timeout=30)
        renewed(alive)
        assert age(alive) < 2
        assert server.stop() == 0, str(server.heard)


def test_a_file_that_cannot_be_written_is_refused(scene: Scene) -> None:
    (scene.folder / "app.py").write_text(scene.app("pass"))

    status, _, told = run(scene.folder, "server", "--alive-file", "nowhere/alive")

    assert status == 1
    assert "nowhere/alive: No such file or directory: name one that can be written" in told


@pytest.mark.parametrize("processes", [1, 2])
def test_systemd_hears_that_it_gets_on(scene: Scene, processes: int) -> None:
    """`WatchdogSec=`: from the moment it is ready; of several processes the supervisor's word alone."""
    with managed(str(scene.folder / "notify")) as manager:
        environment = {**manager.environment, "WATCHDOG_USEC": "2000000"}
        with swarm(scene.folder, scene.app("pass"), processes=processes, environment=environment) as server:
            manager.hears("READY=1")
            for _ in range(3):
                manager.hears("WATCHDOG=1", timeout=1.5)
            assert server.stop() == 0, str(server.heard)


def test_systemd_does_not_hear_of_a_listener_that_does_not_get_on(scene: Scene) -> None:
    """So it kills the process, and starts another."""
    (scene.folder / "stand").touch()
    with managed(str(scene.folder / "notify")) as manager:
        environment = {**manager.environment, "WATCHDOG_USEC": "2000000"}
        with serve(scene.folder, scene.app("pass") + STANDS, environment=environment) as server:
            server.event("late", what=f"the listener of {scene.group!r}")
            manager.all()
            with pytest.raises(TimeoutError):
                manager.hears("WATCHDOG=1", timeout=2.5)
            (scene.folder / "stand").unlink()
            manager.hears("WATCHDOG=1")
            assert server.stop() == 0, str(server.heard)


@pytest.mark.parametrize("variables", [{"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "0"}])
def test_nobody_is_told_who_did_not_ask_this_process(scene: Scene, variables: dict[str, str]) -> None:
    with managed(str(scene.folder / "notify")) as manager:
        environment = {**manager.environment, "WATCHDOG_USEC": "400000", **variables}
        with serve(scene.folder, scene.app("pass"), environment=environment) as server:
            manager.hears("READY=1")
            server.event("assigned")
            assert server.stop() == 0, str(server.heard)
            assert "WATCHDOG=1" not in manager.all()
