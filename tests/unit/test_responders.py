"""What a controller answers with: declared, checked before anything is sent, sent in the order of first use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from karafka import (
    BatchController,
    ConfigError,
    Controller,
    InvalidMessageError,
    Producer,
    Responder,
    ResponderError,
    outgoing,
)
from karafka.controllers import Answering, AnyController, Context, Missing
from karafka.events import Discarded, Event, Events, Unanswered
from karafka.handlers import handler_for
from karafka.messages import Run
from karafka.outbox import Confirmed
from karafka.parsers import payloads
from karafka.routing import topic
from tests.unit.house import letters


class UsersResponder(Responder):
    notified = outgoing("users_notified")
    audit = outgoing("audit", required=False, multiple=True)

    def respond(self, *told: tuple[str, Any]) -> None:
        for name, payload in told:
            self.respond_to(name, payload)


@pytest.fixture
def producer() -> Producer:
    return Producer.recorder()


def sent(producer: Producer) -> list[tuple[str, bytes | None]]:
    return [(one.topic, one.payload) for one in producer.recorded]


class TestWhatIsDeclared:
    def test_topics_are_inherited_and_never_leak_into_a_parent(self) -> None:
        class More(UsersResponder):
            extra = outgoing("extra", required=False)
            audit = outgoing("audit")

        assert [*More.topics] == ["users_notified", "audit", "extra"]
        assert [*UsersResponder.topics] == ["users_notified", "audit"]
        assert [*Responder.topics] == []
        assert UsersResponder.topics["audit"].multiple
        assert More.topics["audit"].required
        with pytest.raises(TypeError):
            UsersResponder.topics["another"] = outgoing("another")  # type: ignore[index]  # that is the point

    def test_a_topic_of_the_same_name_or_attribute_takes_the_place_of_the_inherited_one(self) -> None:
        class Other(UsersResponder):
            notified = outgoing("others_notified")
            log = outgoing("audit")

        class Fewer(UsersResponder):
            audit = None  # type: ignore[assignment]  # it is taken away

        assert [*Other.topics] == ["others_notified", "audit"]
        assert Other.topics["audit"].required
        assert [*Fewer.topics] == ["users_notified"]

    @pytest.mark.parametrize(
        ("declared", "said"),
        [
            (lambda: outgoing("no topic"), "no topic"),
            (lambda: outgoing("a", key="id"), "key='id', but a function of the payload is expected"),  # type: ignore[arg-type]
            (lambda: outgoing("a", partitioner=3), "self.respond_to(…, partition=…)"),  # type: ignore[arg-type]
            (lambda: outgoing("a", parser=object()), "is no parser"),  # type: ignore[arg-type]
        ],
    )
    def test_what_cannot_work_is_refused_where_it_is_declared(self, declared: Callable[[], Any], said: str) -> None:
        with pytest.raises(ConfigError) as refused:
            declared()
        assert said in str(refused.value)

    def test_a_topic_is_declared_once(self) -> None:
        with pytest.raises(ConfigError, match="'a' is declared twice"):

            class Twice(Responder):
                one = outgoing("a")
                two = outgoing("a", multiple=True)

    def test_a_topic_does_not_take_the_place_of_a_method(self) -> None:
        with pytest.raises(ConfigError, match="would take the place of what Responder has"):

            class Calling(Responder):
                call = outgoing("calls")  # type: ignore[assignment]  # that is the point

    def test_a_respond_with_a_yield_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="has a yield"):

            class Yielding(Responder):
                def respond(self) -> Any:
                    yield


class TestWhatIsSent:
    def test_topics_go_out_in_the_order_of_first_use(self, producer: Producer) -> None:
        UsersResponder.call(("audit", 1), ("users_notified", 2), ("audit", 3), producer=producer)

        assert sent(producer) == [("audit", b"1"), ("audit", b"3"), ("users_notified", b"2")]

    def test_everything_that_is_wrong_is_told_at_once_and_nothing_is_sent(self, producer: Producer) -> None:
        class Wrong(UsersResponder):
            once = outgoing("once", required=False)
            needed = outgoing("needed")

        told = [("nowhere", 1), ("once", 1), ("once", 2), ("users_notified", 3)]
        with pytest.raises(ResponderError) as refused:
            Wrong.call(*told, producer=producer)

        assert refused.value.problems == (
            "it does not declare 'nowhere' (but 'users_notified', 'audit', 'once', 'needed')",
            "'once' was sent to 2 times, and is not multiple=True",
            "'needed' is required, and was not sent to",
        )
        assert all(problem in str(refused.value) for problem in refused.value.problems)
        assert producer.recorded == []

    def test_a_payload_that_cannot_be_written_keeps_all_others_back(self, producer: Producer) -> None:
        with pytest.raises(InvalidMessageError):
            UsersResponder.call(("users_notified", 1), ("audit", object()), producer=producer)
        assert producer.recorded == []

    def test_parser_key_and_partition_are_the_topic_s_unless_told_otherwise(self, producer: Producer) -> None:
        class Words:
            def parse(self, raw: bytes) -> list[str]:
                return raw.decode().split()

            def generate(self, payload: list[str]) -> bytes:
                return " ".join(payload).encode()

        class Sorted(Responder):
            words = outgoing("words", multiple=True, parser=Words(), key=lambda words: words[0], partitioner=len)

            def respond(self) -> None:
                self.respond_to(self.words, ["a", "b"])
                self.respond_to("words", ["c"], key="k", partition=7, headers={"a": "b"})

        Sorted.call(producer=producer)

        first, second = producer.recorded
        assert (first.payload, first.key, first.partition) == (b"a b", b"a", 2)
        assert (second.key, second.partition, second.headers) == (b"k", 7, (("a", b"b"),))

    def test_alone_it_gives_the_deliveries(self, producer: Producer) -> None:
        deliveries = UsersResponder.call(("users_notified", 1), producer=producer)

        assert [(one.topic, one.offset) for one in deliveries] == [("users_notified", 0)]

    def test_alone_in_async_def_too(self, producer: Producer) -> None:
        class Aside(UsersResponder):
            async def respond(self, *told: tuple[str, Any]) -> None:  # type: ignore[override]  # it is plain there
                await asyncio.sleep(0)
                super().respond(*told)

        async def both() -> None:
            await Aside.call_async(("users_notified", 1), producer=producer)
            await UsersResponder.call_async(("users_notified", 2), producer=producer)

        asyncio.run(both())
        assert sent(producer) == [("users_notified", b"1"), ("users_notified", b"2")]
        with pytest.raises(ConfigError, match=r"await .*Aside.call_async"):
            Aside.call(producer=producer)

    def test_a_responder_may_have_an_init_of_its_own(self, producer: Producer) -> None:
        class Own(UsersResponder):
            def __init__(self) -> None:
                self.mine = 1

        Own.call(("users_notified", 1), producer=producer)
        assert sent(producer) == [("users_notified", b"1")]

    def test_an_async_respond_in_disguise_is_refused(self, producer: Producer) -> None:
        class Disguised(UsersResponder):
            def respond(self, *told: tuple[str, Any]) -> Any:
                return asyncio.sleep(0)

        with pytest.raises(ConfigError, match="must be awaited"):
            Disguised.call(("users_notified", 1), producer=producer)


class Stand:
    """A route's handler without a server, and what becomes of its messages."""

    def __init__(self, controller: type[AnyController], responder: type[Responder] | None, missing: Missing) -> None:
        self.told: list[Event] = []
        self.producer = Producer.recorder()
        events, reading = Events(), payloads(None, Any)
        events.on(Event, self.told.append)
        app: Any = None
        self.awaits = asyncio.iscoroutinefunction(controller.perform)
        answering = None
        if responder is not None:
            answering = Answering(responder, missing, self.awaits, asyncio.iscoroutinefunction(responder.respond))
        handler = handler_for(controller, Context("g", reading.parse, reading.decode, events, app, answering))
        self.perform: Any = Confirmed(handler, self.producer).perform

    def run(self, count: int, value: bytes = b"7") -> tuple[int, BaseException | None]:
        """How many of so many messages are finished, and what was raised."""
        run = Run(letters(count, value=value))
        try:
            if self.awaits:
                asyncio.run(self.perform(run))
            else:
                self.perform(run)
        except Exception as error:  # noqa: BLE001 - it is looked at
            return run.finished, error
        return run.finished, None


class Answer(Controller[Any]):
    def perform(self) -> None:
        self.respond_with(("users_notified", self.params))


class AnswerAside(Controller[Any]):
    async def perform(self) -> None:
        await self.respond_with(("users_notified", self.params))


class AnswerSeveral(BatchController[Any]):
    def perform(self) -> None:
        for one in self.messages:
            self.respond_with(("users_notified", one.payload))


class Aside(UsersResponder):
    async def respond(self, *told: tuple[str, Any]) -> None:  # type: ignore[override]  # it is plain there
        await asyncio.sleep(0)
        super().respond(*told)


class Silent(Controller[Any]):
    def perform(self) -> None:
        if self.params != 7:
            self.discard("not for us")


class SilentAside(Controller[Any]):
    async def perform(self) -> None: ...


class SilentSeveral(BatchController[Any]):
    def perform(self) -> None: ...


class TestInAController:
    @pytest.mark.parametrize(
        ("controller", "responder"),
        [
            (Answer, UsersResponder),
            (AnswerAside, UsersResponder),
            (AnswerAside, Aside),
            (AnswerSeveral, UsersResponder),
        ],
    )
    @pytest.mark.parametrize("missing", ["error", "ignore"])
    def test_its_answers_are_sent(
        self, controller: type[AnyController], responder: type[Responder], missing: Missing
    ) -> None:
        """In `def`, `async def` and batches, whichever kind `respond` is."""
        stand = Stand(controller, responder, missing)

        assert stand.run(3) == (3, None)
        assert sent(stand.producer) == [("users_notified", b"7")] * 3

    def test_an_answer_that_is_not_as_declared_fails_its_message(self) -> None:
        class Wrong(Controller[Any]):
            def perform(self) -> None:
                self.respond_with(("users_notified", 1), ("nowhere", 2))

        stand = Stand(Wrong, UsersResponder, "error")
        finished, error = stand.run(2)

        assert (finished, type(error)) == (0, ResponderError)
        assert stand.producer.recorded == []

    def test_without_a_responder_it_says_what_to_write(self) -> None:
        finished, error = Stand(Answer, None, "error").run(1)

        assert (finished, type(error)) == (0, ResponderError)
        assert "topic(…, responder=YourResponder)" in str(error)

    def test_in_a_long_run_the_first_without_an_answer_fails(self) -> None:
        """Those before it are finished, with their answers; of those behind it none is performed."""
        performed: list[int] = []

        class Tiring(Controller[Any]):
            def perform(self) -> None:
                params = self.params
                performed.append(params)
                if len(performed) <= 150:
                    self.respond_with(("users_notified", params))

        stand = Stand(Tiring, UsersResponder, "error")
        finished, error = stand.run(200)

        assert (finished, type(error)) == (150, ResponderError)
        assert (len(performed), len(stand.producer.recorded)) == (151, 150)

    @pytest.mark.parametrize("controller", [Silent, SilentAside, SilentSeveral])
    def test_no_answer_is_an_error_where_one_is_required(self, controller: type[AnyController]) -> None:
        stand = Stand(controller, UsersResponder, "error")
        finished, error = stand.run(2)

        assert (finished, type(error)) == (0, ResponderError)
        assert f"{controller.__qualname__} has not answered: UsersResponder has to send to 'users_notified'" in str(
            error
        )
        assert "responder_missing" in str(error)

    @pytest.mark.parametrize("controller", [Silent, SilentAside, SilentSeveral])
    def test_or_an_event_or_nothing_as_the_route_says(self, controller: type[AnyController]) -> None:
        warned, ignored = Stand(controller, UsersResponder, "warn"), Stand(controller, UsersResponder, "ignore")
        count = 1 if controller is SilentSeveral else 2

        assert warned.run(2) == ignored.run(2) == (2, None)
        assert [type(one) for one in warned.told] == [Unanswered] * count
        assert ignored.told == []

    def test_who_drops_a_message_owes_no_answer(self) -> None:
        stand = Stand(Silent, UsersResponder, "error")

        assert stand.run(2, b"8") == (2, None)
        assert [type(one) for one in stand.told] == [Discarded] * 2

    def test_nothing_is_owed_where_nothing_is_required(self) -> None:
        class Optional(Responder):
            audit = outgoing("audit", required=False)

            def respond(self) -> None: ...

        assert Stand(Silent, Optional, "error").run(2) == (2, None)


class TestOnARoute:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"responder": UsersResponder()}, "but a subclass of Responder is expected"),
            ({"responder": Responder}, "has no respond"),
            ({"responder_missing": "maybe"}, "responder_missing"),
        ],
    )
    def test_what_is_no_responder_is_refused(self, options: Any, said: str) -> None:
        with pytest.raises(ConfigError, match=said):
            topic("users", Answer, **options)
