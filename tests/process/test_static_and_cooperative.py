"""Cooperative members that keep their names: one that dies while it hands over leaves a partition to nobody.

What the others wait for it to give up its successor never had, so it gives up nothing, and the broker calls for no new
round: for ever, if nobody asked whose the partitions are.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers import Running
from tests.process.servers import Scene, app, serve

DIES = """
@app.topic({topic!r})
class Each(Controller):
    def perform(self):
        say("done", self.message.partition)

    @classmethod
    def on_revoked(cls, partition):
        if "DIES" in os.environ:
            os._exit(1)

if "NAME" in os.environ:
    app.override({{"group.instance.id": os.environ["NAME"]}})
"""


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["second", None], ids=["beside one with a name", "beside one without"])
def test_what_nobody_owns_is_claimed(kafka: Running, tmp_path: Path, name: str | None) -> None:
    """Whoever keeps its name looks: it is told, a new round is asked for, and all is performed."""
    scene = Scene(kafka.bootstrap, tmp_path, partitions=4)
    kept = {"session.timeout.ms": 45_000}
    source = app(scene.bootstrap, scene.group, DIES.format(topic=scene.topic), kafka=kept, drain_timeout=1.0)
    with serve(tmp_path, source, environment={"NAME": "first", "DIES": "1"}) as dying:
        dying.assigned(4)
        with serve(tmp_path, source, environment={"NAME": name} if name else {}) as other:
            assert dying.ended() == 1
            with serve(tmp_path, source, environment={"NAME": "first"}) as successor:
                both = [other, successor]
                successor.until(lambda: any(one.happened("unowned") for one in both), "it is told")
                for partition in range(4):
                    scene.send(1, partition=partition)
                wanted = [f"done {partition}" for partition in range(4)]
                successor.until(lambda: sorted(line for one in both for line in one.heard.said) == wanted, wanted)
                assert successor.stop() == 0, str(successor.heard)
            assert other.stop() == 0, str(other.heard)
    assert scene.committed == [1, 1, 1, 1]
