"""The app that is struck: what it performs, and what becomes of its partitions, it writes in the journal."""

from __future__ import annotations

import asyncio
import logging
import os
import time

from karafka import App, Backoff, BatchController, Controller, DeadLetter, Message, before_enqueue, topic
from karafka import events as told
from karafka.routing import TopicOptions
from tests.chaos.journal import Journal
from tests.chaos.members import Consumer
from tests.chaos.messages import Numbered

ME = Consumer.parse(os.environ["CHAOS"])
JOURNAL = Journal(ME.journal, ME.life)
# What takes so long is written down when it begins, too: who waits for it to be in hand can see that.
LONG = 1.0


class UnluckyError(Exception):
    """The first tries of some messages, and all of poison."""


def begin(payload: Numbered, message: Message[Numbered]) -> int:
    """A message is taken up, in the assignment whose number is returned."""
    term = JOURNAL.terms[message.partition]
    if payload.takes >= LONG:
        JOURNAL.write("begun", message.partition, message.offset, payload.sequence, term)
    return term


def meet(payload: Numbered, attempt: int) -> None:
    """Raise for a message that is to fail now."""
    if payload.poison or attempt <= payload.fails:
        raise UnluckyError


def end(payload: Numbered, message: Message[Numbered], term: int) -> None:
    """The work: a line in the journal."""
    JOURNAL.write("performed", message.partition, message.offset, payload.sequence, term)


class FastController(Controller[Numbered]):
    """`params` first: parsed ahead, the engine's shortest path."""

    def perform(self) -> None:
        payload = self.params
        term = begin(payload, self.message)
        time.sleep(payload.takes)
        meet(payload, self.message.attempt)
        end(payload, self.message, term)


class HookController(Controller[Numbered]):
    """A hook before it, parsed at touch: the careful path."""

    @before_enqueue
    def look(self) -> None:
        meet(self.params, self.message.attempt)

    def perform(self) -> None:
        term = begin(self.params, self.message)
        time.sleep(self.params.takes)
        end(self.params, self.message, term)


class AsyncController(Controller[Numbered]):
    """On the event loop."""

    async def perform(self) -> None:
        term = begin(self.params, self.message)
        await asyncio.sleep(self.params.takes)
        meet(self.params, self.message.attempt)
        end(self.params, self.message, term)


class WholeController(BatchController[Numbered]):
    """A batch is performed as a whole or not at all, as far as anyone outside can see."""

    def perform(self) -> None:
        for message in self.messages:
            meet(message.payload, message.attempt)
        terms = [begin(message.payload, message) for message in self.messages]
        for message in self.messages:
            time.sleep(message.payload.takes)
        for message, term in zip(self.messages, terms, strict=True):
            end(message.payload, message, term)


class ForgetfulController(FastController):
    """Not one of those that are tested: it shows that the run sees what is lost."""

    def perform(self) -> None:
        if self.params.sequence % 20 != 19:  # a short run has a hundred of a partition
            super().perform()


def assigned(event: told.Assigned) -> None:
    for (_, partition), start in event.starts.items():
        JOURNAL.write("assigned", partition, start)


def revoked(event: told.Revoked) -> None:
    for (_, partition), position in event.positions.items():
        JOURNAL.write("revoked", partition, position)


def lost(event: told.Lost) -> None:
    for _, partition in event.places:
        JOURNAL.write("lost", partition)


def overran(event: told.Overran) -> None:
    JOURNAL.write("overran", event.partition, event.offset)


def committed(event: told.Committed) -> None:
    for (_, partition), position in event.offsets.items():
        JOURNAL.write("committed", partition, position)


def refused(event: told.CommitFailed) -> None:
    for _, partition in event.places:
        JOURNAL.write("refused", partition)


def unexpected(record: logging.LogRecord) -> bool:
    """The log leaves out what this app asks for by the thousand."""
    said = getattr(record, "karafka", {})
    return said.get("event") not in {"failed", "retried", "buried"}


CONTROLLERS: dict[str, type[Controller[Numbered] | BatchController[Numbered]]] = {
    "fast": FastController,
    "hook": HookController,
    "async": AsyncController,
    "batch": WholeController,
    "forgetful": ForgetfulController,
}

logging.getLogger("karafka").addFilter(unexpected)
app = App(
    ME.group,
    kafka={"bootstrap.servers": ME.bootstrap, **ME.kafka},
    commit_interval=ME.commit_interval,
    drain_timeout=ME.drain_timeout,
    shutdown_timeout=ME.shutdown_timeout,
    retry=Backoff(0.01, 0.05),
)
app.events.on(told.Assigned, assigned)
app.events.on(told.Revoked, revoked)
app.events.on(told.Lost, lost)
app.events.on(told.Overran, overran)
app.events.on(told.Committed, committed)
app.events.on(told.CommitFailed, refused)
controller = CONTROLLERS[ME.variant]
options: TopicOptions = {"order": None if ME.order == "none" else ME.order}
if ME.order != "partition":
    options["concurrency"] = 64 if ME.variant == "async" else 16
if ME.grave:
    options["dead_letter"] = DeadLetter(ME.grave)
if issubclass(controller, BatchController):
    options["max_wait"] = 0.05
app.routes.draw(topic(ME.topic, controller, **options))
