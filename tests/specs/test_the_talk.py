"""The app of docs/talk.md, typed from the slides, does what they say."""

from __future__ import annotations

import json
import re
import sys
import time
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from karafka import App, Server
from tests.brokers import until
from tests.specs import visible
from tests.specs.run import Stage

PAGE = Path(__file__).parents[2] / "docs" / "talk.md"
TOPICS = ("videos_created", "incoming_messages", "new_videos", "users_notified", "details", "new_videos_seen")


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module that the page's code makes."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "typed_from_slides.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield import_module("typed_from_slides")
    del sys.modules["typed_from_slides"]


def test_the_slides_work_as_they_stand(stage: Stage, typed: Any) -> None:
    """Routes, naming, hooks, responders, a worker, its queues, a parser, an interchanger."""
    app: App = typed.app
    app.override({"bootstrap.servers": stage.bootstrap})
    server = Server(app, jobs=True)
    jobs = {topic for one in server.subscriptions for topic in one.topics} - set(TOPICS)
    assert jobs == {f"videos_jobs_{queue}" for queue in ("default", "details", "different")}
    for topic in (*TOPICS, *jobs):
        stage.create(topic)
    now = time.time()
    stage.send("videos_created", [json.dumps({"sent_at": at, "user": {"id": at}}) for at in (now - 300, now)])
    stage.send("incoming_messages", [zlib.compress(b'{"binary": true}')])
    stage.send("new_videos", ['{"id": 7}'])
    server.start()
    try:
        for topic in TOPICS[3:]:
            until(lambda topic=topic: len(visible.read(stage.bootstrap, topic)) == 1, 30)  # type: ignore[misc]  # this one
        found = {topic: json.loads(visible.seen(stage.bootstrap, topic)[0]) for topic in TOPICS[3:]}
    finally:
        assert server.stop() == 0

    assert found == {
        "users_notified": {"id": now},
        "details": {"binary": True},
        "new_videos_seen": {"id": 7},
    }
    routes = {route.topic.shown: route for one in app.subscriptions() for route in one.routes}
    workers = {name: route.background.worker.cls.__name__ for name, route in routes.items() if route.background}
    assert workers == {
        "videos_created": "VideosCreatedWorker",
        "incoming_messages": "DetailsWorker",
        "new_videos": "DifferentWorker",
    }
    assert issubclass(routes["videos_created"].background.worker.cls, typed.ApplicationWorker)  # type: ignore[union-attr]  # there
