"""A stop waits for all that runs, what was taken away from the server meanwhile too, and says what it cut short."""

from __future__ import annotations

from pathlib import Path
from signal import SIGTERM

import pytest

from tests.brokers import Running
from tests.process.servers import Scene, Server, serve
from tests.process.test_fencing import EAGER

PERFORM = (
    "say('begun', self.message.partition)",
    "while 'SLOW' in os.environ and not Path('go').exists(): time.sleep(0.01)",
    "say('done', self.message.partition)",
)


def taken_from(slow: Server, quick: Server) -> int:
    """The partition that `quick` got though `slow` still works for it."""
    quick.assigned(1)
    (taken,) = (int(place[-1]) for place in quick.event("assigned")["starts"])
    slow.event("overran", partition=taken)
    slow.until(lambda: len(slow.happened("assigned")) > 1, "the other partition given back")
    return taken


def test_work_that_outlasts_a_revocation_and_the_time_out_is_reported(kafka: Running, tmp_path: Path) -> None:
    scene = Scene(kafka.bootstrap, tmp_path, partitions=2)
    source = scene.app(*PERFORM, drain_timeout=0.5, shutdown_timeout=1, kafka=EAGER)
    scene.send(0, partition=0)
    scene.send(0, partition=1)
    with serve(tmp_path, source, environment={"SLOW": "1"}) as slow:
        slow.says("begun 0")
        slow.says("begun 1")
        with serve(tmp_path, source) as quick:
            taken = taken_from(slow, quick)
            assert slow.stop() == 2, str(slow.heard)
            assert quick.stop() == 0, str(quick.heard)

    unfinished = str(slow.event("server_stopped")["unfinished"])
    assert f"{scene.topic}/{taken}/0" in unfinished, unfinished


def test_a_stop_waits_for_work_that_outlasts_a_revocation(kafka: Running, tmp_path: Path) -> None:
    """Only the message of the partition that was taken away runs on: it may end, within the time-out."""
    scene = Scene(kafka.bootstrap, tmp_path, partitions=2)
    source = scene.app(*PERFORM, drain_timeout=0.5, shutdown_timeout=30, kafka=EAGER)
    scene.send(0, partition=0)
    scene.send(0, partition=1)
    with serve(tmp_path, source, environment={"SLOW": "1"}) as slow:
        slow.says("begun 0")
        slow.says("begun 1")
        with serve(tmp_path, source) as quick:
            taken = taken_from(slow, quick)
            quick.says(f"done {taken}")
            slow.signal(SIGTERM)
            with pytest.raises(TimeoutError):
                slow.event("server_stopped", timeout=1)
            (tmp_path / "go").touch()
            assert slow.ended() == 0, str(slow.heard)
            assert quick.stop() == 0, str(quick.heard)

    assert f"done {taken}" in slow.heard.said
