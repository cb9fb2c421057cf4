"""A message that kills its process, whoever restarts it: named by each that dies of it, and buried unperformed."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.brokers import new_topic
from tests.process.servers import Scene, app, serve

SETTINGS = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500}
DEATHS = {"exit": "os._exit(1)", "segfault": "import ctypes; ctypes.string_at(0)", "kill": "os.kill(os.getpid(), 9)"}


def deadly(scene: Scene, grave: str, death: str, route: str) -> str:
    """An app whose `perform` dies of the payload 3, on a route with those options."""
    source = (
        f"import os\nfrom karafka import DeadLetter\n"
        f"@app.topic({scene.topic!r}, dead_letter=DeadLetter({grave!r}, after=2, {route}))\n"
        "class Each(Controller):\n"
        "    def perform(self):\n"
        f"        if self.params == 3:\n            {death}\n"
        "        print(self.params)\n"
    )
    return app(scene.bootstrap, scene.group, source, kafka=SETTINGS)


def buried(scene: Scene, grave: str) -> list[dict[str, Any]]:
    """The headers of what lies in the dead letter topic, with the payload as `payload`."""
    client = Consumer({"bootstrap.servers": scene.bootstrap, "group.id": "grave", "log_level": 0})
    try:
        end = client.get_watermark_offsets(TopicPartition(grave, 0), 30)[1]
        client.assign([TopicPartition(grave, 0, 0)])
        letters = client.consume(end, 30)
        return [{**dict(one.headers() or []), "payload": one.value()} for one in letters]
    finally:
        client.close()


@pytest.mark.parametrize("death", DEATHS)
def test_what_kills_is_buried_and_the_rest_is_performed(scene: Scene, death: str) -> None:
    """Two deaths make the partition suspect, two more with the message's name are proof."""
    grave = new_topic(scene.bootstrap, 1)
    scene.send(*range(8))
    source = deadly(scene, grave, DEATHS[death], "crashes=True")
    for _ in range(4):
        with serve(scene.folder, source) as server:
            assert server.ended() != 0, str(server.heard)
        assert "4" not in server.heard.said
    with serve(scene.folder, source) as server:
        server.says("7")
        server.event("buried", offset=3)
        assert server.stop() == 0, str(server.heard)

    assert server.heard.said == ["4", "5", "6", "7"]
    (letter,) = buried(scene, grave)
    assert (letter["payload"], letter["karafka-attempts"]) == (b"3", b"2")
    assert letter["karafka-error"] == b"karafka.errors.CrashError"
    assert scene.committed == [8]

    with serve(scene.folder, source) as server:
        scene.send(8)
        server.says("8")
        assert server.stop() == 0
        assert not server.happened("suspected"), "an end in order takes the suspicion back"


def test_without_it_nothing_is_given_up(scene: Scene) -> None:
    """Whoever did not ask for it loses no message to a machine that fails."""
    grave = new_topic(scene.bootstrap, 1)
    scene.send(*range(5))
    source = deadly(scene, grave, DEATHS["exit"], "crashes=False")
    for _ in range(6):
        with serve(scene.folder, source) as server:
            assert server.ended() != 0, str(server.heard)

    assert buried(scene, grave) == []
    assert scene.committed in ([None], [3])
