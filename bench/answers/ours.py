"""karafka's ways of answering, as `karafka server` runs them, until all is committed; see `bench.answers.account`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping

from bench.answers.account import ANSWERED, task
from bench.loops.report import Stopwatch, Video
from karafka import App, BatchController, Controller, Responder, Server, outgoing
from karafka.controllers import AnyController
from karafka.events import Committed, Received

asked, watch = task(), Stopwatch()
app = App(asked.group, kafka={"bootstrap.servers": asked.bootstrap})
total = 0


class SeenResponder(Responder):
    seen = outgoing(asked.target)

    def respond(self, number: int) -> None:
        self.respond_to(self.seen, {"id": number})


class Sends(Controller[Video]):
    def perform(self) -> None:
        global total
        total += (number := self.params.id)
        self.produce(asked.target, {"id": number})


class Responds(Controller[Video]):
    def perform(self) -> None:
        global total
        total += (number := self.params.id)
        self.respond_with(number)


class Awaits(Controller[Video]):
    async def perform(self) -> None:
        global total
        total += (number := self.params.id)
        await self.respond_with(number)


class Batches(BatchController[Video]):
    def perform(self) -> None:
        global total
        for video in self.params:
            total += (number := video.id)
            self.produce(asked.target, {"id": number})


WAYS: Mapping[str, type[AnyController]] = {"produce": Sends, "responder": Responds, "async": Awaits, "batch": Batches}


def main() -> None:
    way = sys.argv[1]
    if way in {"responder", "async"}:
        app.topic(asked.source, responder=SeenResponder)(WAYS[way])
    else:
        app.topic(asked.source)(WAYS[way])
    app.producer.produce_sync(asked.target, ANSWERED)
    app.events.on(Received, received)
    app.events.on(Committed, committed)
    if status := Server(app).run():
        raise SystemExit(f"ended with status {status}")


def received(event: Received) -> None:
    if event.offset == 0:
        watch.start()


def committed(event: Committed) -> None:
    if event.offsets.get((asked.source, 0)) == asked.records:
        watch.report(asked.records, total)
        os.kill(os.getpid(), signal.SIGTERM)


main()
