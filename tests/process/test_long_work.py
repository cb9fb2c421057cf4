"""A `perform` may take longer than Kafka lets a member be silent: it keeps its partitions, and is performed once."""

from __future__ import annotations

from pathlib import Path
from signal import SIGTERM

import pytest

from tests.brokers import Running
from tests.process.servers import Scene, serve

# The member would be thrown out after 3 s without a poll; the work takes longer.
KAFKA = {"session.timeout.ms": 2500, "heartbeat.interval.ms": 500, "max.poll.interval.ms": 3000}
LONG = 5


@pytest.mark.parametrize("asynchronous", [False, True], ids=["thread", "loop"])
def test_membership_is_kept_through_long_work(kafka: Running, tmp_path: Path, *, asynchronous: bool) -> None:
    scene = Scene(kafka.bootstrap, tmp_path, partitions=2)
    sleep = "await asyncio.sleep" if asynchronous else "time.sleep"
    perform = (
        "print('begun', self.params)",
        f"{sleep}({LONG} if self.params == 1 else 0)",
        "print('done', self.params)",
    )
    scene.send(1, 2)
    with serve(tmp_path, scene.app(*perform, asynchronous=asynchronous, kafka=KAFKA)) as server:
        server.says("begun 1")
        scene.send(3, partition=1)
        server.says("done 3")
        assert "done 1" not in server.heard.said
        server.says("done 2")
        assert server.stop(SIGTERM) == 0, str(server.heard)

    order = [line for line in server.heard.said if not line.endswith("3")]
    assert order == ["begun 1", "done 1", "begun 2", "done 2"]
    assert len(server.happened("assigned")) == 1
    assert not server.happened("lost")
    assert scene.committed == [2, 1]


def test_a_stop_waits_for_long_work_and_keeps_the_membership(kafka: Running, tmp_path: Path) -> None:
    """Polling goes on while a stop waits, or the finished work could not be committed."""
    scene = Scene(kafka.bootstrap, tmp_path)
    scene.send("long")
    with serve(tmp_path, scene.app("print('begun')", f"time.sleep({LONG})", "print('done')", kafka=KAFKA)) as server:
        server.says("begun")
        assert server.stop(SIGTERM) == 0, str(server.heard)

    assert server.heard.said == ["begun", "done"]
    assert not server.happened("lost")
    assert scene.committed == [1]
