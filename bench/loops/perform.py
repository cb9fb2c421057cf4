"""karafka: a controller for each message, reading one field of a typed payload."""

from __future__ import annotations

from bench.loops.report import Video, task
from bench.loops.serve import serve
from karafka import App, Controller

asked = task()
app = App(asked.group, kafka={"bootstrap.servers": asked.bootstrap})
total = 0


@app.topic(asked.topic)
class VideosController(Controller[Video]):
    def perform(self) -> None:
        global total
        total += self.params.id


serve(app, asked.records, lambda: total)
