"""SIGTSTP makes a server quiet: it finishes what runs, begins nothing new, and keeps its partitions until TERM."""

from __future__ import annotations

from pathlib import Path
from signal import SIGTERM, SIGTSTP, SIGTTIN

import pytest

from tests.brokers import Running
from tests.process.servers import Scene, app, serve

QUIET = """
@app.topic({topic!r})
class Each(Controller):
    @classmethod
    def on_revoked(cls, partition):
        say("revoked", partition.partition)

    @classmethod
    def on_shutdown(cls, partition):
        say("shutdown", partition.partition)

    def perform(self):
        say("begun", self.params)
        while not Path("go").exists():
            time.sleep(0.01)
        time.sleep(0.5)  # longer than a listener takes to hear of it
        say("done", self.params)
"""


def test_what_runs_is_finished_and_nothing_new_begun(scene: Scene) -> None:
    scene.send(0, 1, 2)
    sticky = {"partition.assignment.strategy": "cooperative-sticky"}
    source = app(scene.bootstrap, scene.group, QUIET.format(topic=scene.topic), kafka=sticky, commit_interval=0.1)
    with serve(scene.folder, source) as server:
        server.says("begun 0")
        server.signal(SIGTSTP)
        server.signal(SIGTTIN)  # answered after the one before: so that it has been heard
        server.event("stacks_shown")
        assert not server.happened("server_quiet")
        (scene.folder / "go").touch()
        server.event("server_quiet")
        server.until(lambda: scene.committed == [1], "what was finished committed")
        scene.send(3)
        # A second member gets nothing: the partitions are kept.
        with serve(scene.folder, source) as other:
            other.event("server_started")
            with pytest.raises(TimeoutError):
                other.says("begun 1", timeout=4)
            assert not server.happened("revoked")
            assert other.stop() == 0, str(other.heard)
        assert server.stop(SIGTERM) == 0, str(server.heard)

    assert server.heard.said == ["begun 0", "done 0", "shutdown 0"]
    assert scene.committed == [1]


def test_a_second_tstp_changes_nothing_and_a_stop_ends_it(scene: Scene) -> None:
    scene.send(0)
    (scene.folder / "go").touch()
    source = app(scene.bootstrap, scene.group, QUIET.format(topic=scene.topic))
    with serve(scene.folder, source) as server:
        server.says("done 0")
        server.signal(SIGTSTP)
        server.event("server_quiet")
        server.signal(SIGTSTP)
        scene.send(1)
        assert server.stop(SIGTERM) == 0, str(server.heard)

    assert server.heard.said == ["begun 0", "done 0", "shutdown 0"]
    assert len(server.happened("server_quiet")) == 1
    assert scene.committed == [1]


def test_work_that_outlasts_a_stop_after_quiet_is_named_too(kafka: Running, tmp_path: Path) -> None:
    scene = Scene(kafka.bootstrap, tmp_path)
    scene.send(0)
    source = app(scene.bootstrap, scene.group, QUIET.format(topic=scene.topic), shutdown_timeout=1.0)
    with serve(scene.folder, source) as server:
        server.says("begun 0")
        server.signal(SIGTSTP)
        assert server.stop(SIGTERM) == 2, str(server.heard)
        (told,) = server.happened("server_stopped")
        assert [f"{scene.topic}/0/0" in one for one in told["unfinished"]] == [True], told
    assert scene.committed == [None]
