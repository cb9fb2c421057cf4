"""HUP: all processes are replaced, one after the other, by what is there now, and the work goes on meanwhile."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path
from signal import SIGHUP, SIGKILL, SIGTERM
from threading import Event, Thread
from typing import Self

import pytest

from karafka import Producer
from tests.brokers import Running
from tests.process.servers import Scene
from tests.process.swarms import swarm

BROKEN = "\nraise RuntimeError('broken')\n"


@pytest.fixture
def scene(kafka: Running, tmp_path: Path) -> Scene:
    return Scene(kafka.bootstrap, tmp_path, partitions=4)


class Feed:
    """Numbers, twenty a second to each partition, until the end of the block; `sent` to each."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.sent = scene, 0
        self._over = Event()
        self._thread = Thread(target=self._run)

    def _run(self) -> None:
        with Producer({"bootstrap.servers": self.scene.bootstrap}) as producer:
            while not self._over.wait(0.05):
                for partition in range(4):
                    producer.produce_async(self.scene.topic, self.sent, partition=partition)
                self.sent += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


SAY = "say(f'{time.time():.3f}', self.message.partition, self.params, %r)"


@pytest.mark.timeout(240)
@pytest.mark.parametrize("arguments", [(), ("--static-membership",)], ids=["", "with names"])
def test_one_after_the_other_and_no_gap_in_the_work(scene: Scene, arguments: tuple[str, ...]) -> None:
    """All is performed once, in order; what was deployed meanwhile runs in the end; most work goes on all the time."""
    with swarm(scene.folder, scene.app(SAY % "old"), *arguments) as server, Feed(scene) as feed:
        server.runs()
        (scene.folder / "app.py").write_text(scene.app(SAY % "new"))
        began = time.time()
        server.signal(SIGHUP)
        server.event("swarm_restarted", 120)
        took = time.time() - began
        seen = len(server.heard.said)
        server.until(lambda: len(server.heard.said) > seen + 40, "the new ones work")
        feed.__exit__()
        count = 4 * feed.sent
        server.until(lambda: len(server.heard.said) >= count, f"all {count} are performed")
        assert server.stop() == 0, str(server.heard)

    lines = [line.split() for line in server.heard.said]
    for partition in range(4):
        assert [int(one[2]) for one in lines if one[1] == str(partition)] == list(range(feed.sent))
    assert {one[3] for one in lines[-40:]} == {"new"}
    times = sorted(float(one[0]) for one in lines)
    gap = max((b - a for a, b in pairwise(times) if began <= a <= began + took), default=0)
    print(f"two processes replaced in {took:.1f} s; nobody worked for {gap:.2f} s at most")
    assert gap < 3
    assert len(server.pids) == 4
    assert [one["status"] for one in server.happened("process_ended")[:2]] == [0, 0]
    first = server.happened("process_outdated")
    assert [one["process"] for one in first] == [1, 2]


def test_the_next_waits_until_the_one_before_works(scene: Scene) -> None:
    """Process 2 is not touched while the new process 1 is still setting up."""
    gate = "import threading\nwhile Path('shut').exists() and threading.active_count() > 1: time.sleep(0.01)\n"
    with swarm(scene.folder, scene.app("pass") + gate) as server:
        server.runs()
        (scene.folder / "shut").touch()
        server.signal(SIGHUP)
        server.until(lambda: len(server.pids) == 3, "one more is started")
        new = server.pids[2]
        server.signal(SIGHUP)  # and again: the one that is not ready was started before, so it is replaced too
        server.until(lambda: len(server.pids) == 4, "another takes its place")
        assert [one["pid"] for one in server.happened("process_ended")] == [new]
        assert [one["process"] for one in server.happened("process_outdated")] == [1, 1]
        (scene.folder / "shut").unlink()
        server.event("swarm_restarted", 60)
        assert [one["process"] for one in server.happened("process_outdated")] == [1, 1, 2]
        assert server.stop() == 0, str(server.heard)

    assert len(server.pids) == 5


def test_what_is_broken_replaces_nothing(scene: Scene) -> None:
    """The old ones go on, and it is said."""
    with swarm(scene.folder, scene.app("say('done')")) as server:
        server.runs()
        (scene.folder / "app.py").write_text(scene.app("say('done')") + BROKEN)
        server.signal(SIGHUP)
        assert "status 1" in server.event("restart_given_up")["error"]
        for partition in range(4):
            scene.send("one", partition=partition)
        server.until(lambda: server.heard.said.count("done") == 4, "the old ones work")
        assert server.happened("process_ended") == []
        (scene.folder / "app.py").write_text(scene.app("say('mended')"))
        server.signal(SIGHUP)
        server.event("swarm_restarted", 60)
        assert server.stop() == 0, str(server.heard)

    assert len(server.pids) == 5
    assert any("RuntimeError: broken" in line for line in server.heard.told)


def test_who_waits_to_be_started_is_started_at_once(scene: Scene) -> None:
    """A process that dies again and again is mended by a restart."""
    dies = "\nif os.getpid() != os.getpgrp() or Path('healthy').exists(): pass\n"
    dies += "elif sum(1 for _ in Path('.').glob('life-*')) >= 2: os.kill(os.getpid(), signal.SIGKILL)\n"
    dies += "else: Path(f'life-{os.getpid()}').touch()\n"
    with swarm(scene.folder, scene.app("pass") + dies) as server:
        server.runs()
        os.kill(server.pid(1), SIGKILL)
        server.event("process_died", process=1, after=8.0, timeout=60)
        (scene.folder / "healthy").touch()
        began = time.monotonic()
        server.signal(SIGHUP)
        died = len(server.happened("process_died"))
        server.event("swarm_restarted", 60)
        print(f"mended and restarted in {time.monotonic() - began:.1f} s")
        assert len(server.happened("process_died")) == died
        assert server.stop() == 0, str(server.heard)


def test_a_stop_in_the_midst_of_it_stops_all(scene: Scene) -> None:
    """The old ones, and the new one that is not ready yet."""
    gate = "import threading\nwhile Path('shut').exists() and threading.active_count() > 1: time.sleep(0.01)\n"
    with swarm(scene.folder, scene.app("pass") + gate) as server:
        server.runs()
        (scene.folder / "shut").touch()
        server.signal(SIGHUP)
        server.until(lambda: len(server.pids) == 3, "one more is started")
        began = time.monotonic()
        assert server.stop(SIGTERM) == 0, str(server.heard)
        took = time.monotonic() - began

    assert took < 5
    assert len(server.pids) == 3
