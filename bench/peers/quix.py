"""Quix Streams: a dataframe that is updated by a function for each message."""

from __future__ import annotations

from typing import Any

from quixstreams import Application

from bench.loops.report import task
from bench.peers.tally import Tally

asked = task()
tally = Tally(asked)
application = Application(
    asked.bootstrap, consumer_group=asked.group, auto_offset_reset="earliest", loglevel=None, use_changelog_topics=False
)
videos = application.dataframe(application.topic(asked.topic, value_deserializer="json"))


def count(video: dict[str, Any]) -> None:
    tally.add(video["id"])


videos.update(count)
application.run()
