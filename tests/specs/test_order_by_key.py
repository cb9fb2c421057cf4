"""Messages of a key are performed one at a time, in order; those of different keys side by side."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Hashable
from typing import Any

import pytest

from karafka import Backoff, BatchController, Controller, DeadLetter, Message
from karafka.controllers import AnyController
from karafka.events import Buried, Committed, Failed, LaneUnnamed
from karafka.order import Order
from tests.specs.run import Notes, Stage, running, until

KEYS = 20


class Scene:
    """What performs did: how many at once, of all and of one lane; and in which order."""

    def __init__(self) -> None:
        self.seen: Notes[tuple[Hashable, int]] = Notes()
        self.most = self.most_of_one = 0
        self._at_once: Counter[Hashable] = Counter()
        self._lock = threading.Lock()

    def begin(self, lane: Hashable) -> None:
        with self._lock:
            self._at_once[lane] += 1
            self.most = max(self.most, self._at_once.total())
            self.most_of_one = max(self.most_of_one, self._at_once[lane])

    def end(self, lane: Hashable, number: int) -> None:
        with self._lock:
            self._at_once[lane] -= 1
        self.seen.add((lane, number))

    def controller(self, *, asynchronous: bool, takes: float = 0.01) -> type[AnyController]:
        scene = self

        class Keep(Controller[int]):
            def perform(self) -> None:
                scene.begin(self.message.key)
                time.sleep(takes)
                scene.end(self.message.key, self.params)

        class KeepAsync(Controller[int]):
            async def perform(self) -> None:
                scene.begin(self.message.key)
                await asyncio.sleep(takes)
                scene.end(self.message.key, self.params)

        return KeepAsync if asynchronous else Keep

    def of(self, lane: Hashable) -> list[int]:
        return [number for one, number in self.seen if one == lane]


def send(stage: Stage, topic: str, count: int, keys: int = KEYS) -> None:
    """Numbers from 0 up, of so many keys in turn."""
    stage.send_many(topic, [(str(number), b"%d" % (number % keys)) for number in range(count)])


@pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "loop"])
@pytest.mark.parametrize("takes", [0.0, 0.01], ids=["quick", "slow"])
def test_keys_go_side_by_side_and_each_in_order(stage: Stage, *, asynchronous: bool, takes: float) -> None:
    """What takes time; what takes none goes together."""
    app, topic, scene = stage.app(), stage.topic(), Scene()
    app.topic(topic, order="key", concurrency=8)(scene.controller(asynchronous=asynchronous, takes=takes))
    send(stage, topic, 400)

    with running(app):
        until(lambda: len(scene.seen) == 400)

    for key in range(KEYS):
        assert scene.of(b"%d" % key) == list(range(key, 400, KEYS))
    assert scene.most_of_one == 1
    assert not takes or scene.most == 8
    assert stage.committed(app.config.client_id, topic, 1) == {0: 400}


def test_without_an_order_all_go_side_by_side(stage: Stage) -> None:
    """Of one key too."""
    app, topic, scene = stage.app(), stage.topic(), Scene()
    app.topic(topic, order=None, concurrency=8)(scene.controller(asynchronous=False))
    send(stage, topic, 200, keys=1)

    with running(app):
        until(lambda: len(scene.seen) == 200)

    assert scene.most == 8
    assert sorted(scene.of(b"0")) == list(range(200))
    assert stage.committed(app.config.client_id, topic, 1) == {0: 200}


def test_a_function_may_name_the_lane(stage: Stage) -> None:
    """By whatever it finds in the message."""
    app, topic = stage.app(), stage.topic()
    seen: Notes[int] = Notes()

    def tenth(message: Message[Any]) -> int:
        return int(message.payload) // 10

    @app.topic(topic, order=tenth, concurrency=4)
    class Keep(Controller[int]):
        def perform(self) -> None:
            time.sleep(0.005)
            seen.add(self.params)

    send(stage, topic, 100)
    with running(app):
        until(lambda: len(seen) == 100)
    for lane in range(10):
        assert [one for one in seen if one // 10 == lane] == list(range(lane * 10, lane * 10 + 10))


def test_what_it_cannot_name_goes_with_those_without_a_key(stage: Stage) -> None:
    """And is told: nothing is passed over."""
    app, topic = stage.app(), stage.topic()
    seen: Notes[int] = Notes()

    def fails(message: Message[Any]) -> Any:
        return {} if message.payload % 2 else message.headers["missing"]

    @app.topic(topic, order=fails, concurrency=4)
    class Keep(Controller[int]):
        def perform(self) -> None:
            time.sleep(0.005)
            seen.add(self.params)

    send(stage, topic, 10)
    with running(app, allow=(LaneUnnamed,)) as server:
        until(lambda: len(seen) == 10)
    assert seen.all() == list(range(10))
    assert {one.offset for one in server.told(LaneUnnamed)} == set(range(10))


def test_messages_without_a_key_are_in_order_among_themselves(stage: Stage) -> None:
    """As if they all had the same."""
    app, topic, scene = stage.app(), stage.topic(), Scene()
    app.topic(topic, order="key", concurrency=8)(scene.controller(asynchronous=False, takes=0.002))
    stage.send(topic, map(str, range(100)))

    with running(app):
        until(lambda: len(scene.seen) == 100)
    assert scene.of(None) == list(range(100))
    assert scene.most == 1


@pytest.mark.parametrize("order", ["key", None])
def test_a_failing_message_holds_up_nothing_but_its_lane(stage: Stage, order: Order) -> None:
    """What is finished behind it is kept with the commit: the next start begins with what is not."""
    topic, first = stage.topic(), stage.app(retry=Backoff(0.05, 0.1))
    seen: Notes[int] = Notes()
    heal = threading.Event()

    class Keep(Controller[int]):
        def perform(self) -> None:
            if self.params == 7 and not heal.is_set():
                raise ValueError
            time.sleep(0.002)
            seen.add(self.params)

    first.topic(topic, order=order, concurrency=8)(Keep)
    send(stage, topic, 200)
    behind = set(range(7, 200, KEYS)) if order == "key" else {7}
    with running(first, allow=(Failed,)) as server:
        until(lambda: len(seen) == 200 - len(behind) and len(server.told(Failed)) >= 3)
    assert set(seen) == set(range(200)) - behind
    assert stage.committed(first.config.client_id, topic, 1) == {0: 7}

    heal.set()
    second = stage.app(client_id=first.config.client_id)
    second.topic(topic, order=order, concurrency=8)(Keep)
    with running(second):
        until(lambda: len(seen) == 200)
    assert Counter(seen) == Counter(range(200))
    assert stage.committed(first.config.client_id, topic, 1) == {0: 200}


def test_dead_letters_are_a_lane_s_own(stage: Stage) -> None:
    """Its later messages go on once the broker has confirmed it, those of other keys at once."""
    app, topic, grave = stage.app(retry=Backoff(0.01, 0.01)), stage.topic(), stage.topic()
    seen: Notes[int] = Notes()

    @app.topic(topic, order="key", concurrency=8, dead_letter=DeadLetter(grave, after=2))
    class Keep(Controller[int]):
        def perform(self) -> None:
            if self.params % 50 == 7:
                raise ValueError
            time.sleep(0.002)
            seen.add(self.params)

    send(stage, topic, 200)
    with running(app, allow=(Failed,)) as server:
        until(lambda: len(seen) == 196 and len(server.told(Buried)) == 4)
    assert sorted(event.offset for event in server.told(Buried)) == [7, 57, 107, 157]
    assert stage.committed(app.config.client_id, topic, 1) == {0: 200}


def test_batches_are_of_one_lane(stage: Stage) -> None:
    """And of no more messages than told."""
    app, topic = stage.app(), stage.topic()
    batches: Notes[list[int]] = Notes()

    @app.topic(topic, order="key", concurrency=8, max_messages=5, max_wait=0.2)
    class Keep(BatchController[int]):
        def perform(self) -> None:
            assert len({message.key for message in self.messages}) == 1
            batches.add(list(self.params))

    send(stage, topic, 200)
    with running(app):
        until(lambda: sum(map(len, batches)) == 200)
    for key in range(KEYS):
        mine = [one for batch in batches for one in batch if batch[0] % KEYS == key]
        assert mine == list(range(key, 200, KEYS))
    assert {len(batch) for batch in batches} == {5}


def test_a_mark_finishes_its_message_alone(stage: Stage) -> None:
    """Where marking is manual: what is not marked is what the next start begins with."""
    topic, first = stage.topic(), stage.app(commit_interval=0.1)
    seen: Notes[int] = Notes()

    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add(self.params)
            if self.params % 10 or len(seen) > 100:
                assert self.mark()

    first.topic(topic, order="key", concurrency=8, marking="manual")(Keep)
    send(stage, topic, 100)
    with running(first) as server:
        until(lambda: len(seen) == 100 and server.told(Committed))
    assert stage.committed(first.config.client_id, topic, 1).get(0, 0) == 0

    second = stage.app(client_id=first.config.client_id)
    second.topic(topic, order="key", concurrency=8, marking="manual")(Keep)
    with running(second):
        until(lambda: len(seen) == 110)
    assert sorted(seen.all()[100:]) == list(range(0, 100, 10))
    assert stage.committed(first.config.client_id, topic, 1) == {0: 100}
