"""In `async def perform` sends are awaited, side by side if wished; calls that would block the loop are refused."""

from __future__ import annotations

import asyncio
import os

from karafka import ConfigError, Controller, Delivery, DeliveryError
from tests.specs.run import Notes, Stage, running, until


def test_sends_are_awaited(stage: Stage) -> None:
    """One by one, or many at once; what is awaited is confirmed."""
    app, topic, other = stage.app(), stage.topic(), stage.topic()
    stage.send(topic, ["1", "2"])
    sent: Notes[Delivery] = Notes()

    @app.topic(topic)
    class Forwarding(Controller[int]):
        async def perform(self) -> None:
            sent.add(await self.app.producer.produce_async(other, self.params))
            for delivery in await asyncio.gather(
                *(one for one in (self.app.producer.produce_async(other, number) for number in range(50)))
            ):
                sent.add(delivery)

    with running(app):
        until(lambda: len(sent) == 102)
    assert sorted(one.offset for one in sent) == list(range(102))
    assert {one.topic for one in sent} == {other}
    assert stage.end(other) == 102


def test_calls_that_block_are_refused_with_the_way_out(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    stage.send(topic, ["1"])
    said: Notes[str] = Notes()

    @app.topic(topic)
    class Blocking(Controller[int]):
        async def perform(self) -> None:
            producer, handle = self.app.producer, self.app.producer.produce_async(topic, b"1", partition=0)
            for call in (
                lambda: producer.produce_sync(topic, 1),
                lambda: producer.produce_many_sync([]),
                handle.wait,
                producer.flush,
                self.commit,
            ):
                try:
                    call()
                except ConfigError as error:
                    said.add(str(error))
            await handle
            self.discard()

    with running(app):
        until(lambda: len(said) >= 5)
    assert [one.partition(" would block the event loop: ")[0] for one in said.all()[:5]] == [
        *("produce_sync", "produce_many_sync", "Handle.wait", "flush", "commit")
    ]


def test_a_delivery_that_fails_is_raised_where_it_is_awaited(stage: Stage) -> None:
    """And who gives up waiting leaves nothing behind."""
    app, topic, small = stage.app(), stage.topic(), stage.topic(max_message_bytes="1000")
    stage.send(topic, ["1"])
    errors: Notes[BaseException] = Notes()

    @app.topic(topic)
    class Failing(Controller[int]):
        async def perform(self) -> None:
            for timeout in (0, 30):
                try:
                    async with asyncio.timeout(timeout):
                        await self.app.producer.produce_async(small, os.urandom(5_000))
                except (DeliveryError, TimeoutError) as error:
                    errors.add(error)

    with running(app):
        until(lambda: len(errors) == 2)
    assert [type(one) for one in errors] == [TimeoutError, DeliveryError]
