"""A message whose tries are spent goes to its dead letter topic as it came, and its partition goes on."""

from __future__ import annotations

from random import Random

import pytest

from karafka import Backoff, Controller, DeadLetter, Skip
from karafka.events import BurialFailed, Buried, Discarded, Failed, Postponed
from tests.specs.run import Notes, Stage, running, until


def test_it_arrives_byte_for_byte_with_where_from_and_why(stage: Stage) -> None:
    app, topic, grave = stage.app(retry=Backoff(0.05)), stage.topic(), stage.topic()
    seen: Notes[tuple[int, int]] = Notes()
    headers: list[tuple[str, str | bytes | None]] = [("a", b"1"), ("a", b"\xff"), ("none", None)]
    stage.send(topic, map(str, range(10)))
    stage.send(topic, [b"10 \xff\x00"], key=b"\x00key", headers=headers)
    stage.send(topic, map(str, range(11, 100)))

    @app.topic(topic, dead_letter=DeadLetter(grave, after=3))
    class Stumble(Controller[int]):
        def perform(self) -> None:
            seen.add((self.message.offset, self.message.attempt))
            if self.message.offset == 10:
                raise ValueError("ünfit")

    with running(app, allow=(Failed,)) as server:
        until(lambda: len(seen) == 102)
        assert [event.verdict.split()[0] for event in server.told(Failed)] == ["tried", "tried", "goes"]
        assert [(event.offset, event.grave) for event in server.told(Buried)] == [(10, grave)]

    once = [(offset, 1) for offset in range(100)]
    assert seen.all() == [*once[:11], (10, 2), (10, 3), *once[11:]]
    assert stage.committed(app.config.client_id, topic) == {0: 100}
    (buried,) = stage.read(grave, 1)
    assert (buried.key(), buried.value()) == (b"\x00key", b"10 \xff\x00")
    told = stage.headers(buried)
    assert told[:3] == [("a", b"1"), ("a", b"\xff"), ("none", None)]
    added = dict(told[3:])
    assert all(name.startswith("karafka-") for name in added)
    assert added["karafka-topic"] == topic.encode()
    assert added["karafka-partition"] == b"0"
    assert added["karafka-offset"] == b"10"
    assert added["karafka-group"] == app.config.client_id.encode()
    assert added["karafka-attempts"] == b"3"
    assert added["karafka-error"] == b"builtins.ValueError"
    assert added["karafka-reason"] == "ünfit".encode()


def test_a_burial_that_is_refused_holds_its_partition_alone(stage: Stage) -> None:
    """The dead letter topic takes nothing that large: the message stays where it is, loudly; neighbours go on."""
    app, topic = stage.app(retry=Backoff(0.1, 0.2)), stage.topic(2)
    grave = stage.topic(max_message_bytes="2000")
    seen: Notes[tuple[int, int]] = Notes()
    stage.send(topic, [b"0", Random(1).randbytes(10_000), b"2"])  # nothing that compression makes small
    stage.send(topic, map(str, range(50)), partition=1)

    @app.topic(topic, dead_letter=DeadLetter(grave, after=1))
    class Stumble(Controller[int]):
        def perform(self) -> None:
            seen.add((self.message.partition, self.params))

    with running(app, allow=(Failed, BurialFailed)) as server:
        until(lambda: len(seen) == 51 and len(server.told(BurialFailed)) >= 3)
        assert not server.told(Buried)
    assert (0, 2) not in seen
    assert stage.committed(app.config.client_id, topic, 2) == {0: 1, 1: 50}


def test_a_reason_of_any_length_fits(stage: Stage) -> None:
    app, topic, grave = stage.app(), stage.topic(), stage.topic()
    stage.send(topic, ["1"])

    @app.topic(topic, dead_letter=DeadLetter(grave, after=1))
    class Stumble(Controller[int]):
        def perform(self) -> None:
            raise ValueError("€" * 100_000 + "\ud800")

    with running(app, allow=(Failed,)) as server:
        until(lambda: server.told(Buried))
    (buried,) = stage.read(grave, 1)
    assert sum(len(name) + len(value or b"") for name, value in stage.headers(buried)) < 4_096


def test_attempts_belong_to_one_message(stage: Stage) -> None:
    """Twenty that each fail once are more failures in a row than tries, and none of them is buried."""
    app, topic, grave = stage.app(retry=Backoff(0.02, 0.02)), stage.topic(), stage.topic()
    done: Notes[int] = Notes()
    stage.send(topic, map(str, range(20)))

    @app.topic(topic, dead_letter=DeadLetter(grave, after=2))
    class Stumble(Controller[int]):
        def perform(self) -> None:
            if self.message.attempt == 1:
                raise ValueError
            done.add(self.params)

    with running(app, allow=(Failed,)) as server:
        until(lambda: len(done) == 20)
        assert [(event.offset, event.attempt) for event in server.told(Failed)] == [(one, 1) for one in range(20)]
        assert not server.told(Buried)
    assert done.all() == list(range(20))
    assert stage.end(grave) == 0


@pytest.mark.parametrize("asynchronous", [False, True], ids=["thread", "loop"])
def test_a_message_may_be_buried_at_once(stage: Stage, *, asynchronous: bool) -> None:
    """`self.bury` is a decision, no failure: no second try, no error told, and the partition goes on."""
    app, topic, grave = stage.app(), stage.topic(), stage.topic()
    done: Notes[int] = Notes()
    stage.send(topic, map(str, range(10)))

    class Choose(Controller[int]):
        def choose(self) -> None:
            if self.params == 4:
                self.bury("not ours")
            done.add(self.params)

    class Plain(Choose):
        def perform(self) -> None:
            self.choose()

    class Aside(Choose):
        async def perform(self) -> None:
            self.choose()

    app.topic(topic, dead_letter=DeadLetter(grave, after=5))(Aside if asynchronous else Plain)

    with running(app) as server:
        until(lambda: len(done) == 9)
        assert [(event.offset, event.attempt) for event in server.told(Postponed)] == [(4, 1)]
        assert [event.offset for event in server.told(Buried)] == [4]
    assert done.all() == [number for number in range(10) if number != 4]
    (buried,) = stage.read(grave, 1)
    assert buried.value() == b"4"
    assert dict(stage.headers(buried))["karafka-reason"] == b"not ours"
    assert stage.end(grave) == 1
    assert stage.committed(app.config.client_id, topic) == {0: 10}


def test_a_strategy_may_give_a_message_up(stage: Stage) -> None:
    app, topic, grave = stage.app(retry=Backoff(0.02)), stage.topic(), stage.topic()
    done: Notes[int] = Notes()
    stage.send(topic, map(str, range(5)))

    def strategy(error: BaseException, attempt: int) -> Skip | None:
        return Skip() if isinstance(error, KeyError) and attempt == 2 else None

    @app.topic(topic, dead_letter=DeadLetter(grave, after=3, strategy=strategy))
    class Stumble(Controller[int]):
        def perform(self) -> None:
            if self.params == 1:
                raise KeyError
            if self.params == 3:
                raise ValueError
            done.add(self.params)

    with running(app, allow=(Failed,)) as server:
        until(lambda: len(done) == 3)
        assert [(event.offset, event.attempt) for event in server.told(Failed)] == [
            (1, 1),
            (1, 2),
            (3, 1),
            (3, 2),
            (3, 3),
        ]
        assert [event.offset for event in server.told(Discarded)] == [1]
    assert [message.value() for message in stage.read(grave, 1)] == [b"3"]
    assert stage.committed(app.config.client_id, topic) == {0: 5}
