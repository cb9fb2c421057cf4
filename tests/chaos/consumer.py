"""The app that is killed: each message it has performed is a line in the ledger's file. Told what to be by environment.

One `os.write` to a file opened for appending is done or not done, whenever the process is killed; what it wrote is
the system's, and survives the process.
"""

from __future__ import annotations

import asyncio
import json
import os
import time

from karafka import App, Backoff, BatchController, Controller, Message, before_enqueue, topic
from tests.chaos.ledger import Line, Numbered

LIFE = int(os.environ["CHAOS_LIFE"])
FAILING = os.environ["CHAOS_FAILING"] == "1"
LEDGER = os.open(os.environ["CHAOS_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

# Now and then a message takes longer, so that a kill finds it in hand.
SLOW_EACH, SLOW = 997, 0.3


class UnluckyError(Exception):
    """One message in a hundred fails the first time."""


def pause(payload: Numbered, partition: int) -> float:
    """Seconds that this message takes; not at the same time in all partitions."""
    return SLOW if (payload.sequence + 249 * partition) % SLOW_EACH == 0 else 0


def meet(message: Message[Numbered]) -> None:
    """Raise for a message that is to fail now."""
    if FAILING and message.attempt == 1 and message.payload.sequence % 100 == 13:
        raise UnluckyError


def write(message: Message[Numbered]) -> None:
    """The work: a line in the ledger."""
    line = Line(LIFE, message.partition, message.offset, message.payload.sequence, time.monotonic())
    os.write(LEDGER, str(line).encode())


class FastController(Controller[Numbered]):
    """`params` first: parsed ahead, the engine's shortest path."""

    def perform(self) -> None:
        time.sleep(pause(self.params, self.message.partition))
        meet(self.message)
        write(self.message)


class HookController(Controller[Numbered]):
    """A hook before it, parsed at touch: the careful path."""

    @before_enqueue
    def look(self) -> None:
        meet(self.message)

    def perform(self) -> None:
        time.sleep(pause(self.params, self.message.partition))
        write(self.message)


class AsyncController(Controller[Numbered]):
    """On the event loop."""

    async def perform(self) -> None:
        await asyncio.sleep(pause(self.params, self.message.partition))
        meet(self.message)
        write(self.message)


class WholeController(BatchController[Numbered]):
    """A batch is performed as a whole or not at all, as far as anyone outside can see."""

    def perform(self) -> None:
        for message in self.messages:
            meet(message)
        for message in self.messages:
            write(message)


CONTROLLERS: dict[str, type[Controller[Numbered] | BatchController[Numbered]]] = {
    "fast": FastController,
    "hook": HookController,
    "async": AsyncController,
    "batch": WholeController,
}

app = App(
    os.environ["CHAOS_GROUP"],
    kafka={"bootstrap.servers": os.environ["CHAOS_BOOTSTRAP"], **json.loads(os.environ["CHAOS_KAFKA"])},
    commit_interval=float(os.environ["CHAOS_COMMIT_INTERVAL"]),
    retry=Backoff(0.02, 0.2),
)
controller = CONTROLLERS[os.environ["CHAOS_VARIANT"]]
if issubclass(controller, BatchController):
    app.routes.draw(topic(os.environ["CHAOS_TOPIC"], controller, max_wait=0.05))
else:
    app.routes.draw(topic(os.environ["CHAOS_TOPIC"], controller))
