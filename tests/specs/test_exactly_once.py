"""What a message sends and its offset are committed together: results are seen once, in order, of finished messages."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from random import Random
from threading import Event
from time import monotonic
from typing import Any

import pytest
from confluent_kafka import Producer as Client

from karafka import Backoff, Controller, DeadLetter, Server
from karafka.events import (
    Buried,
    DeliveryFailed,
    Discarded,
    Failed,
    ServerStopping,
    Sought,
    TransactionAborted,
    TransactionCommitted,
)
from karafka.policy import Skip
from tests.brokers import new_group
from tests.brokers import until as until_true
from tests.specs.exact import KINDS, Line, Single, Told, sender, serving
from tests.specs.run import Notes, Stage, running, until


@pytest.fixture
def line(stage: Stage) -> Line:
    return Line(stage)


@pytest.mark.parametrize("kind", KINDS)
def test_results_and_offsets_are_committed_together(stage: Stage, kind: str) -> None:
    """Whenever it is stopped there are as many results as finished messages; at the end all, once, in order."""
    line = Line(stage, 2)
    for partition in (0, 1):
        line.send(range(3_000), partition)
    options: dict[str, Any] = {"max_messages": 50, "max_wait": 0.05} if "batch" in kind else {}
    for stop in range(1, 5):
        with running(line.app(sender(line, kind), **options)) as server:
            until(lambda: len(server.told(TransactionCommitted)) > 2, 60)
        results = Counter(one.split()[0] for one in line.seen())
        offsets = line.committed()
        print(f"stop {stop}: {offsets} committed")
        assert [results[str(partition)] for partition in (0, 1)] == [one or 0 for one in offsets]
    with running(line.app(sender(line, kind), **options)):
        line.done(3_000, 3_000)
    line.once(3_000, 3_000)


@pytest.mark.parametrize("kind", KINDS)
def test_a_perform_that_fails_in_the_midst_has_sent_nothing(line: Line, kind: str) -> None:
    """Those before it are committed with their results; once it succeeds its results are seen, once and in order."""
    failing, tried = [7], Notes[int]()

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
    with running(line.app(Stumbling, retry=Backoff(0.2, 0.2), **options), allow=(Failed,)) as server:
        until(lambda: len(tried) == 3)
        line.done(first)
        line.once(first)
        assert {event.offset for event in server.told(Failed)} <= {*range(first, first + 5)}
        failing.clear()
        line.done(20)
    line.once(20)


def test_a_message_whose_tries_are_spent_is_buried_and_the_rest_goes_on(line: Line) -> None:
    """Of what it sent in its tries nothing is seen."""
    grave = line.stage.topic()
    line.send(range(30))

    class Stumbling(sender(line)):  # type: ignore[misc]  # it is plain
        def pass_on(self) -> None:
            super().pass_on()
            if self.params % 10 == 3:
                raise ValueError("never")

    with running(line.app(Stumbling, dead_letter=DeadLetter(grave, after=2)), allow=(Failed,)) as server:
        line.done(30)
        assert [event.offset for event in server.told(Buried)] == [3, 13, 23]
    assert line.seen() == [f"0 {number}" for number in range(30) if number % 10 != 3]
    assert [one.value() for one in line.stage.read(grave, 3)] == [b"3", b"13", b"23"]


def test_what_is_given_up_counts_as_finished(line: Line) -> None:
    """Discarded, by itself or by its route's strategy, put off, or buried by hand: nothing is doubled.

    What one sent before it discarded itself is sent; what one sent that failed is not.
    """
    grave = line.stage.topic()
    line.send(range(12))
    postponed: set[int] = set()

    class Choosy(Single):
        target = line.target

        def perform(self) -> None:
            match self.params:
                case 2:
                    self.discard("unwanted")
                case 4 if 4 not in postponed:
                    postponed.add(4)
                    self.pass_on()
                    self.retry(0.1)
                case 6:
                    self.pass_on()
                    self.bury("by hand")
                case 8:
                    self.pass_on()
                    raise KeyError("skipped")
                case 10:
                    self.pass_on()
                    self.discard("nothing more")
            self.pass_on()

    def skips(error: BaseException, attempt: int) -> Skip | None:
        return Skip() if isinstance(error, KeyError) else None

    app = line.app(Choosy, dead_letter=DeadLetter(grave, after=3, strategy=skips))
    with running(app, allow=(Failed,)) as server:
        line.done(12)
        assert {event.offset for event in server.told(Discarded)} == {2, 8, 10}
        assert [event.offset for event in server.told(Buried)] == [6]
    assert line.seen() == [f"0 {number}" for number in range(12) if number not in {2, 6, 8}]


def test_a_message_that_sends_nothing_is_finished_too(line: Line) -> None:
    line.send(range(10))

    class Silent(Controller[int]):
        def perform(self) -> None: ...

    with running(line.app(Silent)):
        line.done(10)
    assert line.seen() == []


def test_it_sends_as_a_producer_does(line: Line) -> None:
    """Several messages of one, over topics and partitions, with keys, headers, times and payloads of all kinds."""
    other = line.stage.topic(2)
    line.send([7])

    class Many(Controller[int]):
        def perform(self) -> None:
            self.produce(line.target, {"number": self.params}, key="k", headers={"a": "b"}, timestamp=1.5, label="x")
            self.produce(line.target, None, key=b"\xff", headers=[("a", b"1"), ("a", None)])
            self.produce(other, b"bytes", partition=1)

    with running(line.app(Many)):
        line.done(1)
    one, tombstone = line.messages()
    assert (one.key(), one.value(), one.timestamp()[1]) == (b"k", b'{"number":7}', 1_500)
    assert line.stage.headers(one) == [("a", b"b")]
    assert (tombstone.key(), tombstone.value()) == (b"\xff", None)
    assert line.stage.headers(tombstone) == [("a", b"1"), ("a", None)]
    assert (line.stage.end(other), line.stage.end(other, 1)) == (0, 2)  # with its marker


# ── what cannot be sent ──────────────────────────────────────────────────────────────────────────────────────────

LARGE = Random(1).randbytes(10_000)  # nothing that compression makes small


@pytest.mark.parametrize(
    ("payload", "options", "kind"),
    [
        ({"a": object()}, {}, "InvalidMessageError"),
        (b"x", {"partition": -1}, "InvalidMessageError"),
        (bytes(2_000_000), {}, "TooLargeError"),
        (LARGE, {}, "TooLargeError"),
        (b"x", {"partition": 77}, "UnknownTopicError"),
    ],
    ids=[
        "no payload",
        "no partition number",
        "too large for the client",
        "too large for the topic",
        "no such partition",
    ],
)
def test_a_result_that_cannot_be_fails_its_own_message_alone(
    stage: Stage, payload: object, options: dict[str, Any], kind: str
) -> None:
    """After its tries it is buried; those that were performed with it are committed, whether before it or after."""
    line, grave = Line(stage, max_message_bytes="2000"), stage.topic()
    line.send(range(12))

    class Odd(sender(line)):  # type: ignore[misc]  # it is plain
        def pass_on(self) -> None:
            super().pass_on()
            if self.params in {2, 9}:
                self.produce(line.target, payload, **options)

    app = line.app(Odd, dead_letter=DeadLetter(grave, after=2))
    with serving(app, allow=(Failed, DeliveryFailed, TransactionAborted)) as heard:
        line.done(12)
        assert [event.offset for event in heard.of(Buried)] == [2, 9]
        assert {(event.offset, event.kind) for event in heard.of(Failed)} == {(2, kind), (9, kind)}
    assert line.seen() == [f"0 {number}" for number in range(12) if number not in {2, 9}]


@pytest.mark.parametrize("kind", ["batch", "async batch"])
def test_a_result_that_cannot_be_fails_its_batch(stage: Stage, kind: str) -> None:
    """Batches are halved until the culprit stands alone, as where `perform` raises."""
    line, grave = Line(stage, max_message_bytes="2000"), stage.topic()
    line.send(range(12))

    class Odd(sender(line, kind)):  # type: ignore[misc]  # one of the two
        def pass_on(self) -> None:
            super().pass_on()
            if 5 in self.params:
                self.produce(line.target, LARGE)

    app = line.app(Odd, dead_letter=DeadLetter(grave, after=2), max_messages=4)
    with serving(app, allow=(Failed, DeliveryFailed, TransactionAborted)) as heard:
        line.done(12)
        assert [event.offset for event in heard.of(Buried)] == [5]
    assert line.seen() == [f"0 {number}" for number in range(12) if number != 5]


def test_what_comes_after_its_message_has_ended_is_refused(line: Line) -> None:
    """From a thread or task that outlives its `perform`: in words, not dropped."""
    line.send([0])
    kept = Notes[Single]()

    class Keeping(sender(line)):  # type: ignore[misc]  # it is plain
        def pass_on(self) -> None:
            super().pass_on()
            kept.add(self)

    with running(line.app(Keeping)):
        line.done(1)
        with pytest.raises(RuntimeError):
            kept.all()[0].produce(line.target, "late")
    assert line.seen() == ["0 0"]


def test_a_mark_is_not_answered_as_if_it_counted(line: Line) -> None:
    """Nothing but a transaction finishes a message here: a mark that would do nothing is refused."""
    line.send(range(3))
    answers = Notes[object]()

    class Marking(sender(line)):  # type: ignore[misc]  # it is plain
        def pass_on(self) -> None:
            super().pass_on()
            try:
                answers.add(self.mark())
            except RuntimeError as error:
                answers.add(error)

    with running(line.app(Marking)):
        line.done(3)
    assert True not in answers.all()


# ── where it ends, and goes on ───────────────────────────────────────────────────────────────────────────────────


def test_markers_leave_no_lag(line: Line) -> None:
    """Messages that came by transactions: the group's offset passes the markers behind the last of them."""
    client = Client({"bootstrap.servers": line.stage.bootstrap, "transactional.id": new_group()})
    client.init_transactions(10)
    for numbers, kept in ((range(3), True), (range(100, 104), False)):
        client.begin_transaction()
        for number in numbers:
            client.produce(line.source, str(number), partition=0)
        assert client.flush(10) == 0
        if kept:
            client.commit_transaction(10)
        else:
            client.abort_transaction(10)
    with running(line.app(sender(line))):
        until_true(lambda: line.stage.end(line.source) == 9)
        line.done(9, timeout=15)
    line.once(3)


def test_one_route_s_results_are_another_s_messages(line: Line) -> None:
    """In one app: what comes out at the end is there once, and no group has any lag."""
    last = line.stage.topic()
    app = line.app(sender(line))

    @app.topic(line.target, exactly_once=True)
    class Second(Controller[str]):
        async def perform(self) -> None:
            self.produce(last, (self.message.raw or b"").decode() + "!")

    second = Line(line.stage)
    second.group, second.source, second.target = line.group, line.target, last
    with running(app):
        for numbers in (range(100), range(100, 200)):
            line.send(numbers)
            line.done(numbers.stop)
            until_true(lambda numbers=numbers: len(second.seen()) == numbers.stop)  # type: ignore[misc]  # of this turn
        second.done(line.stage.end(line.target), timeout=15)
    assert second.seen() == [f"0 {number}!" for number in range(200)]


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_in_the_midst_of_a_message_it_finishes_it(line: Line, kind: str) -> None:
    """And starts no other: its results are committed, the others are the next server's."""
    inside, go_on = Event(), Event()

    class Slow(sender(line, kind)):  # type: ignore[misc]  # one of the four
        def pass_on(self) -> None:
            super().pass_on()
            inside.set()
            assert go_on.wait(30)

    line.send(range(100))
    options: dict[str, Any] = {"max_messages": 1} if "batch" in kind else {}
    app = line.app(Slow, **options)
    told = Told()
    app.events.on(ServerStopping, told.add)
    server = Server(app)
    server.start()
    with ThreadPoolExecutor(1) as pool:
        assert inside.wait(30)
        stopping = pool.submit(server.stop)
        until(lambda: len(told) == 1)
        go_on.set()
        assert stopping.result(30) == 0
    (done,) = line.committed()
    assert done is not None
    line.once(done)


def test_a_seek_goes_on_there(line: Line) -> None:
    """Back: what is performed again is sent again; forward: what is passed over is not."""
    line.send(range(50))
    sought = Notes[int]()

    class Seeking(sender(line)):  # type: ignore[misc]  # it is plain
        def pass_on(self) -> None:
            super().pass_on()
            if self.params == 5 and not sought.all():
                sought.add(2)
                assert self.seek(2)
            elif self.params == 10:
                assert self.seek(40)

    with running(line.app(Seeking)) as server:
        line.done(50)
        assert [event.offset for event in server.told(Sought)] == [2, 40]
    expected = [*range(6), *range(2, 11), *range(40, 50)]
    assert line.seen() == [f"0 {number}" for number in expected]


def test_a_pause_is_kept(line: Line) -> None:
    """What was finished before it is committed meanwhile."""
    line.send(range(10))
    times = Notes[tuple[int, float]]()

    class Pausing(sender(line)):  # type: ignore[misc]  # it is plain
        def pass_on(self) -> None:
            super().pass_on()
            times.add((self.params, monotonic()))
            if self.params == 4:
                assert self.pause(1.5)

    with running(line.app(Pausing)):
        line.done(5, timeout=1.4)
        line.done(10)
    moments = dict(times)
    assert moments[5] - moments[4] >= 1.4
    line.once(10)


def test_a_group_begins_at_the_end_where_its_route_says_so(line: Line) -> None:
    """That offset is committed before the first transaction."""
    line.send([100, 101])
    with running(line.app(sender(line), start="latest")):
        line.done(2)
        line.send(range(5))
        line.done(7)
    line.once(5)


def test_a_system_exit_commits_what_was_finished_before(line: Line) -> None:
    """Nothing of the message that raised it."""
    line.send(range(10))

    class Ending(sender(line)):  # type: ignore[misc]  # it is plain
        def pass_on(self) -> None:
            super().pass_on()
            if self.params == 4:
                raise SystemExit(7)

    server = Server(line.app(Ending))
    server.start()
    assert server.join(30) == 7
    assert line.committed() == [4]
    line.once(4)
