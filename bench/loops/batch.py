"""karafka: a controller for each batch of up to 500 messages, all payloads read."""

from __future__ import annotations

from bench.loops.report import Video, task
from bench.loops.serve import serve
from karafka import App, BatchController

asked = task()
app = App(asked.group, kafka={"bootstrap.servers": asked.bootstrap})
total = 0


@app.topic(asked.topic, max_messages=500, max_wait=0)
class VideosController(BatchController[Video]):
    def perform(self) -> None:
        global total
        for video in self.params:
            total += video.id


serve(app, asked.records, lambda: total)
