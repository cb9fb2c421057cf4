"""karafka: as `perform`, but the payload has no type: a dict."""

from __future__ import annotations

from typing import Any

from bench.loops.report import task
from bench.loops.serve import serve
from karafka import App, Controller

asked = task()
app = App(asked.group, kafka={"bootstrap.servers": asked.bootstrap})
total = 0


@app.topic(asked.topic)
class VideosController(Controller[Any]):
    def perform(self) -> None:
        global total
        total += self.params["id"]


serve(app, asked.records, lambda: total)
