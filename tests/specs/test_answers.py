"""What a message sends by its controller is confirmed before it is finished, on routes of all kinds."""

from __future__ import annotations

from threading import Event
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from karafka import App, Backoff, BatchController, Controller, DeadLetter, Responder, outgoing
from karafka.controllers import AnyController
from karafka.events import Buried, Committed, DeliveryFailed, Failed, Unanswered
from tests.specs import visible
from tests.specs.exact import KINDS, Line, sender, serving
from tests.specs.run import Notes, Stage, running, until

ORDERS: dict[str, dict[str, Any]] = {"partition": {}, "key": {"order": "key"}, "none": {"order": None}}
LARGE = "x" * 2_000_000


def plain(line: Line, controller: type[AnyController], **options: Any) -> App:
    """A member of the line's group whose route is not exactly-once."""
    return line.app(controller, exactly_once=False, **options)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", KINDS)
def test_results_are_there_when_their_offset_is_committed(stage: Stage, kind: str, order: str) -> None:
    """Whenever something is committed, all that the messages before it have sent can be read."""
    line = Line(stage)
    keys = [None, *(f"k{number}".encode() for number in range(5))]
    stage.send_many(line.source, ((str(number), keys[number % 6]) for number in range(3_000)))
    options: dict[str, Any] = {"max_messages": 50, "max_wait": 0.05} if "batch" in kind else {}
    app = plain(line, sender(line, kind), settings={"commit_interval": 0.05}, **options, **ORDERS[order])
    reader = Consumer({"bootstrap.servers": stage.bootstrap, "group.id": "nobody", "log_level": 0})
    seen: list[tuple[int, int]] = []

    def committed(event: Committed) -> None:
        results = reader.get_watermark_offsets(TopicPartition(line.target, 0), 10)[1]
        seen.append((event.offsets.get((line.source, 0), 0), results))

    app.events.on(Committed, committed)
    with running(app):
        line.done(3_000)
    reader.close()
    print(f"{kind}, {order}: committed, and results: {seen}")
    assert seen
    assert [one for one in seen if one[0] > one[1]] == []
    numbers = [int(one.split()[1]) for one in line.seen()]
    assert sorted(numbers) == list(range(3_000))
    if order == "partition":
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("kind", KINDS)
def test_a_perform_that_fails_has_sent_nothing(stage: Stage, kind: str) -> None:
    """Those before it are finished; once it succeeds its result is there, once and in order."""
    line, failing, tried = Line(stage), [7], Notes[int]()

    class Stumbling(sender(line, kind)):  # type: ignore[misc]  # one of the four
        def pass_on(self) -> None:
            super().pass_on()
            numbers = self.params if isinstance(self.params, list) else [self.params]
            if set(failing) & set(numbers):
                tried.add(numbers[0])
                raise ValueError("not yet")

    options: dict[str, Any] = {"max_messages": 5} if "batch" in kind else {}
    line.send(range(20))
    first = 5 if "batch" in kind else 7
    with running(plain(line, Stumbling, retry=Backoff(0.2, 0.2), **options), allow=(Failed,)):
        until(lambda: len(tried) == 3)
        line.done(first)
        line.once(first)
        failing.clear()
        line.done(20)
    line.once(20)


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_what_cannot_be_delivered_is_buried_and_the_rest_goes_on(stage: Stage, kind: str) -> None:
    """It fails as what `perform` raises does, by the route's policy."""
    line, grave = Line(stage), stage.topic()

    class Some(sender(line, kind)):  # type: ignore[misc]  # one of the two
        def pass_on(self) -> None:
            if self.params == 5:
                self.produce(line.target, LARGE)
            super().pass_on()

    line.send(range(12))
    app = plain(line, Some, retry=Backoff(0.05, 0.05), dead_letter=DeadLetter(grave, after=2))
    with running(app, allow=(Failed, DeliveryFailed)) as server:
        line.done(12)
        assert [event.offset for event in server.told(Buried)] == [5]
    found = [int(one.split()[1]) for one in line.seen() if len(one) < 100]
    assert list(dict.fromkeys(found)) == [number for number in range(12) if number != 5]


@pytest.mark.parametrize("order", ["partition", "key"])
def test_a_long_message_holds_back_no_result_before_it(stage: Stage, order: str) -> None:
    """What was performed before it in its run goes out, and is committed, while it takes its time."""
    line, gate = Line(stage), Event()

    class Slow(Controller[int]):
        def perform(self) -> None:
            if self.params == 30:
                gate.wait(30)
            self.produce(line.target, f"0 {self.params}")

    line.send(range(40))
    app = plain(line, Slow, settings={"commit_interval": 0.1}, **ORDERS[order])
    try:
        with running(app):
            until(lambda: len(line.seen()) >= 30, 20)
            line.done(30)
            gate.set()
            line.done(40)
    finally:
        gate.set()
    line.once(40)


@pytest.mark.parametrize("kind", ["single", "batch"])
def test_marks_wait_for_what_was_sent(stage: Stage, kind: str) -> None:
    """Where nothing but a mark finishes a message, none does before its result is confirmed."""
    line = Line(stage)

    class Single(Controller[int]):
        def perform(self) -> None:
            self.produce(line.target, f"0 {self.params}")
            assert self.mark()

    class Several(BatchController[int]):
        def perform(self) -> None:
            for one in self.messages:
                self.produce(line.target, f"0 {one.payload}")
                assert self.mark(one)

    line.send(range(200))
    with running(plain(line, Single if kind == "single" else Several, marking="manual")):
        line.done(200)
    line.once(200)


def test_a_responder_answers_by_the_route(stage: Stage) -> None:
    """Topics in the order of first use; what is not as declared fails its message, and nothing of it is sent."""
    source, first, second = stage.topic(), stage.topic(), stage.topic()
    wrong = [True]

    class AnswersResponder(Responder):
        one = outgoing(first)
        other = outgoing(second, required=False, multiple=True, key=str)

        def respond(self, number: int) -> None:
            if number == 3 and wrong:
                self.respond_to(self.other, number)
                return
            self.respond_to(self.one, number)
            for _ in range(number % 3):
                self.respond_to(self.other, number)

    app = stage.app(retry=Backoff(0.1, 0.1))

    @app.topic(source, responder=AnswersResponder)
    class AnswersController(Controller[int]):
        def perform(self) -> None:
            self.respond_with(self.params)

    def there(topic: str) -> list[str]:
        return visible.seen(stage.bootstrap, topic, 1)

    stage.send(source, map(str, range(6)))
    with running(app, allow=(Failed,)) as server:
        until(lambda: len(server.told(Failed)) > 1)
        assert {event.offset for event in server.told(Failed)} == {3}
        assert "is required, and was not sent to" in server.told(Failed)[0].error
        assert there(second) == ["1", "2", "2"]
        wrong.clear()
        until(lambda: server.told(Committed) and server.told(Committed)[-1].offsets.get((source, 0)) == 6)
    assert there(first) == list("012345")
    assert there(second) == list("12245" + "5")


def test_an_answer_that_is_missing_is_told_where_the_route_says_so(stage: Stage) -> None:
    source = stage.topic()

    class Owing(Responder):
        one = outgoing("somewhere")

        def respond(self) -> None: ...

    app = stage.app()

    @app.topic(source, responder=Owing, responder_missing="warn")
    class Silent(Controller[int]):
        def perform(self) -> None: ...

    stage.send(source, ["1", "2"])
    with running(app) as server:
        until(lambda: len(server.told(Unanswered)) == 2)
        until(lambda: server.told(Committed) and server.told(Committed)[-1].offsets.get((source, 0)) == 2)


def test_on_an_exactly_once_route_answers_are_part_of_its_transaction(stage: Stage) -> None:
    """The same code; an answer that is not as declared aborts what it is about, and is seen once when it succeeds."""
    line, wrong = Line(stage), [True]

    class Whole(Responder):
        results = outgoing(line.target, multiple=True)
        audit = outgoing("nowhere", required=False)

        def respond(self, number: int) -> None:
            self.respond_to(self.results, f"0 {number}")
            if number == 7 and wrong:
                self.respond_to("undeclared", number)

    class Answers(Controller[int]):
        def perform(self) -> None:
            self.respond_with(self.params)

    line.send(range(20))
    app = line.app(Answers, responder=Whole, retry=Backoff(0.2, 0.2))
    with serving(app, allow=(Failed,)) as heard:
        line.done(7)
        until(lambda: len(heard.of(Failed)) > 1)
        line.once(7)
        wrong.clear()
        line.done(20)
    line.once(20)
