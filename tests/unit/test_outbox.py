"""What messages send by their controllers: nothing too early, nothing too late, and nothing is finished without it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from threading import Event, Thread
from typing import Any

import pytest

from karafka.client import Refused
from karafka.errors import DeliveryError, InvalidMessageError, QueueFullError, TooLargeError
from karafka.events import Failed, QueueFull
from karafka.messages import Handler, Place, Run, offset_of
from karafka.outbox import Confirmed
from karafka.policy import Policy
from karafka.producer import Producer
from tests.unit.house import House, letters, offsets, ours
from tests.unit.post import TOO_LARGE, Passing, Post, without_threads


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Passing:
    return without_threads(monkeypatch)


@pytest.fixture
def post(passing: Passing) -> Post:
    return Post(passing.wait)


@pytest.fixture
def producer(post: Post) -> Iterator[Producer]:
    made = Producer({"bootstrap.servers": "there:9092"}, sender=lambda: post, max_wait_on_full=5.0)
    yield made
    post.answer(*post.silent)
    made.close()


def passes(*topics: str, fails: dict[int, BaseException] | None = None) -> Callable[[Run], None]:
    """A handler that sends each message's offset on to `topics`, and then raises what it `fails` with."""

    def handler(run: Run) -> None:
        assert run.outbox is not None
        for record in run:
            at = record.offset() or 0
            run.outbox.add(at, [(topic, str(at)) for topic in topics])
            if fails is not None and at in fails:
                raise fails[at]

    return handler


def performed(handler: Handler, run: Run, producer: Producer) -> BaseException | None:
    """What comes of it, on the thread of the test."""
    call: Any = Confirmed(handler, producer).perform
    try:
        call(run)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - it is looked at
        return error
    return None


def sent(post: Post, topic: str = "results") -> list[str]:
    return [str(one.value) for one in post.sent if one.topic == topic]


class TestARun:
    def test_its_messages_are_finished_once_all_is_confirmed(self, producer: Producer, post: Post) -> None:
        """All go out before the first is waited for, so that their ways to the brokers overlap."""
        run, seen = Run(letters(5)), []
        post.open = False

        def meanwhile(_seconds: float) -> None:
            seen.append((len(post.sent), run.progress, run.finished))
            post.answer()

        post.meanwhile = meanwhile

        assert performed(passes("results"), run, producer) is None
        assert seen == [(5, 0, 0)]
        assert run.finished == 5
        assert sent(post) == ["0", "1", "2", "3", "4"]

    def test_nothing_leaves_before_its_perform_has_ended(self, producer: Producer, post: Post) -> None:
        """What fails has sent nothing; those before it are out and finished."""
        run, error = Run(letters(5)), ValueError("not yet")

        assert performed(passes("results", fails={3: error}), run, producer) is error
        assert run.finished == 3
        assert sent(post) == ["0", "1", "2"]

    def test_the_first_that_is_not_delivered_fails_as_its_perform_would(self, producer: Producer, post: Post) -> None:
        run = Run(letters(5))
        post.refusing["poison"] = TOO_LARGE

        def handler(run: Run) -> None:
            assert run.outbox is not None
            for record in run:
                at = record.offset() or 0
                run.outbox.send(at, "poison" if at == 2 else "results", str(at))

        assert isinstance(performed(handler, run, producer), TooLargeError)
        assert run.finished == 2

    def test_it_comes_before_what_fails_behind_it(self, producer: Producer, post: Post) -> None:
        """The later one is performed again anyway; what it raised is the cause."""
        run, error = Run(letters(5)), ValueError("later")
        post.refusing["results"] = TOO_LARGE

        raised = performed(passes("results", fails={3: error}), run, producer)

        assert isinstance(raised, TooLargeError)
        assert raised.__cause__ is error
        assert run.finished == 0

    @pytest.mark.parametrize("end", [SystemExit(4), KeyboardInterrupt()])
    def test_but_not_before_a_wish_for_the_end(self, producer: Producer, post: Post, end: BaseException) -> None:
        run = Run(letters(5))
        post.refusing["results"] = TOO_LARGE

        assert performed(passes("results", fails={3: end}), run, producer) is end
        assert run.finished == 0

    def test_of_one_message_nothing_is_kept_if_one_of_several_cannot_be(self, producer: Producer, post: Post) -> None:
        """Also where user code goes on after it."""

        def handler(run: Run) -> None:
            assert run.outbox is not None
            for record in run:
                with pytest.raises(InvalidMessageError):
                    run.outbox.add(
                        record.offset() or 0,
                        [("results", "good"), ("results", object())],
                    )

        run = Run(letters(2))
        assert performed(handler, run, producer) is None
        assert run.finished == 2
        assert post.sent == []

    def test_what_comes_after_its_end_is_refused(self, producer: Producer) -> None:
        """From a thread that outlives its perform: the offset would not wait for it."""
        run = Run(letters(1))
        performed(passes(), run, producer)

        with pytest.raises(RuntimeError, match="'results' comes after the perform that sends it"):
            passes("results")(run)

    def test_nobody_waits_for_a_partition_that_is_gone(self, producer: Producer, post: Post, passing: Passing) -> None:
        """Its worker is free again; what was sent may arrive or not, and the next owner performs all of it."""
        assignment = ours()
        run = Run(letters(3), assignment=assignment)
        post.open = False
        passing.meanwhile = assignment.close

        assert performed(passes("results"), run, producer) is None
        assert run.finished == 0

    def test_of_a_partition_that_is_gone_nothing_is_sent_any_more(self, producer: Producer, post: Post) -> None:
        """The next owner sends all of it: what came from here too would come later, and in between."""
        assignment = ours()
        run = Run(letters(3), assignment=assignment)
        plain = passes("results")

        def handler(run: Run) -> None:
            plain(run)
            assignment.close()

        assert performed(handler, run, producer) is None
        assert run.finished == 0
        assert post.sent == []

    @pytest.mark.parametrize("end", [SystemExit(4), KeyboardInterrupt()])
    def test_a_wish_for_the_end_does_not_wait_for_a_broker_that_is_away(
        self, producer: Producer, post: Post, passing: Passing, end: BaseException
    ) -> None:
        """The process ends in some seconds, not in the minutes that a message may take; what it sent comes again."""
        run, began = Run(letters(5)), passing.monotonic()
        post.open = False

        assert performed(passes("results", fails={3: end}), run, producer) is end
        assert run.finished == 0
        assert passing.monotonic() - began < 10

    def test_a_client_that_is_of_no_more_use_fails_what_it_had(self, producer: Producer, post: Post) -> None:
        """It is performed and sent again, by another client."""
        run = Run(letters(3))
        producer.close()

        assert isinstance(performed(passes("results"), run, producer), DeliveryError)
        assert run.finished == 0

    def test_behind_one_that_the_client_refuses_nothing_is_sent(self, producer: Producer, post: Post) -> None:
        """All behind it is performed again: so it is not sent twice, nor before it."""
        run = Run(letters(4))

        def handler(run: Run) -> None:
            assert run.outbox is not None
            for record in run:
                at = record.offset() or 0
                if at == 2:
                    post.error = Refused(TOO_LARGE)
                    run.hasten()
                    post.error = None
                run.outbox.send(at, "results", str(at))

        assert isinstance(performed(handler, run, producer), TooLargeError)
        assert run.finished == 0
        assert post.sent == []


class TestRoom:
    def test_it_is_waited_for(self, producer: Producer, post: Post) -> None:
        run = Run(letters(20))
        post.room = 3

        assert performed(passes("results"), run, producer) is None
        assert sent(post) == [str(number) for number in range(20)]

    def test_where_there_is_none_nothing_overtakes(self, producer: Producer, post: Post) -> None:
        """What found room is confirmed and finished; the first that did not fails, and is tried again."""
        run = Run(letters(5))
        post.room, post.open = 2, False
        patience = 12.0

        def meanwhile(seconds: float) -> None:
            nonlocal patience
            patience -= seconds
            if patience < 0:
                post.answer()

        waits = post.meanwhile

        def waiting(seconds: float) -> None:
            waits(seconds)
            meanwhile(seconds)

        post.meanwhile = waiting

        assert isinstance(performed(passes("results"), run, producer), QueueFullError)
        assert run.finished == 2
        assert sent(post) == ["0", "1"]

    def test_nobody_waits_for_room_for_a_partition_that_is_gone(
        self, producer: Producer, post: Post, passing: Passing
    ) -> None:
        """Else a partition that comes back to this process would wait for the worker for a minute."""
        assignment = ours()
        run, began = Run(letters(5), assignment=assignment), passing.monotonic()
        post.room, post.open = 2, False
        passing.meanwhile = assignment.close

        assert performed(passes("results"), run, producer) is None
        assert run.finished == 0
        assert passing.monotonic() - began < 1

    def test_what_comes_too_late_is_refused_while_room_is_waited_for(self, producer: Producer, post: Post) -> None:
        """At once: from a task, say, whose loop must not stand still."""
        run, refused = Run(letters(3)), Event()
        post.room, post.open = 1, False

        def late() -> None:
            assert run.outbox is not None
            with pytest.raises(RuntimeError, match="too late"):
                run.outbox.send(2, "results", "late")
            refused.set()

        def meanwhile(_seconds: float) -> None:
            thread = Thread(target=late)
            thread.start()
            assert refused.wait(10)
            thread.join()
            post.answer()

        post.meanwhile = meanwhile
        assert performed(passes("results"), run, producer) is None
        assert refused.is_set()
        assert sent(post) == ["0", "1", "2"]

    def test_on_a_loop_others_go_on_meanwhile(self, producer: Producer, post: Post) -> None:
        run, beats = Run(letters(6)), 0
        post.room = 2
        plain = passes("results")

        async def handler(run: Run) -> None:
            plain(run)

        async def beside() -> None:
            nonlocal beats
            while run.finished < 6:
                beats += 1
                producer._line[0].glance() if producer._line else None
                await asyncio.sleep(0.001)

        async def both() -> None:
            perform: Any = Confirmed(handler, producer).perform
            await asyncio.wait_for(asyncio.gather(perform(run), beside()), 10)

        asyncio.run(both())
        assert sent(post) == [str(number) for number in range(6)]
        assert beats > 0


class TestALongRun:
    def test_what_it_has_performed_goes_out_and_counts_meanwhile(self, producer: Producer, post: Post) -> None:
        """The listener hastens it: nobody waits for a result until the next message has taken its hour."""
        run, seen = Run(letters(4)), []

        def handler(run: Run) -> None:
            assert run.outbox is not None
            for record in run:
                at = record.offset() or 0
                if at == 2:
                    seen.append((run.progress, sent(post)))
                    run.halt()
                    run.hasten()
                    seen.append((run.progress, sent(post)))
                    post.serve(0.0)
                    seen.append((run.progress, sent(post)))
                run.outbox.send(at, "results", str(at))

        assert performed(handler, run, producer) is None
        assert seen == [(0, []), (0, ["0", "1"]), (2, ["0", "1"])]
        assert run.finished == 3
        assert sent(post) == ["0", "1", "2"]

    def test_hastening_does_not_wait_for_room(self, producer: Producer, post: Post) -> None:
        """The listener's thread has other things to do; the rest goes at the end, in order."""
        run = Run(letters(4))
        post.room = 1

        def handler(run: Run) -> None:
            assert run.outbox is not None
            for record in run:
                at = record.offset() or 0
                if at == 3:
                    post.open = False
                    before = producer._max_wait
                    run.hasten()
                    assert producer._max_wait == before
                    assert sent(post) == ["0"]
                    post.answer()
                run.outbox.send(at, "results", str(at))

        assert performed(handler, run, producer) is None
        assert sent(post) == ["0", "1", "2", "3"]

    def test_hastening_again_and_again_tells_of_no_full_queue(self, producer: Producer, post: Post) -> None:
        """It looks whether there is room, twenty times a second; nobody waits."""
        heard: list[QueueFull] = []
        producer.events.on(QueueFull, heard.append)
        run = Run(letters(3))
        post.room = 1

        def handler(run: Run) -> None:
            assert run.outbox is not None
            for record in run:
                at = record.offset() or 0
                if at == 2:
                    post.open = False
                    for _ in range(20):
                        run.hasten()
                    post.answer()
                run.outbox.send(at, "results", str(at))

        assert performed(handler, run, producer) is None
        assert len(heard) <= 2  # of those that wait at its end

    def test_nothing_is_hastened_once_it_has_ended(self, producer: Producer, post: Post, passing: Passing) -> None:
        """What found no room is performed again: sent now, it would come twice."""
        run, began = Run(letters(4)), passing.monotonic()
        post.room, post.open = 2, False
        passing.meanwhile = lambda: post.answer() if passing.monotonic() > began + 12 else None

        assert isinstance(performed(passes("results"), run, producer), QueueFullError)
        run.hasten()
        post.serve(0.0)
        assert sent(post) == ["0", "1"]


class TestAsync:
    def test_a_wait_that_is_cancelled_finishes_nothing_unconfirmed(self, producer: Producer, post: Post) -> None:
        """As by a stop whose time is over."""
        run = Run(letters(3))
        post.open = False
        plain = passes("results")

        async def handler(run: Run) -> None:
            plain(run)

        async def cancelled() -> None:
            perform: Any = Confirmed(handler, producer).perform
            task = asyncio.create_task(perform(run))
            while not post.sent:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(cancelled())
        assert run.finished == 0


class TestMarks:
    def test_a_mark_waits_for_what_was_sent_before(self, producer: Producer, post: Post) -> None:
        """Else a crash between the two would lose it."""
        assignment, seen = ours(), []
        run = Run(letters(3), assignment=assignment)

        def handler(run: Run) -> None:
            assert run.outbox is not None
            for record in run:
                at = record.offset() or 0
                run.outbox.send(at, "results", str(at))
                assert run.outbox.mark(at, at, assignment)
                seen.append(assignment.marked)

        assert performed(handler, run, producer) is None
        assert seen == [0, 0, 0]
        assert assignment.marked == 3

    def test_a_mark_that_comes_while_confirmations_are_waited_for_waits_too(
        self, producer: Producer, post: Post
    ) -> None:
        """From a thread that outlives its perform."""
        assignment, seen = ours(), []
        run = Run(letters(1), assignment=assignment)
        post.open = False

        def meanwhile(_seconds: float) -> None:
            assert run.outbox is not None
            assert run.outbox.mark(0, 0, assignment)
            seen.append(assignment.marked)
            post.answer()

        post.meanwhile = meanwhile
        assert performed(passes("results"), run, producer) is None
        assert seen == [0]
        assert assignment.marked == 1

    def test_a_mark_after_a_failure_marks_nothing(self, producer: Producer, post: Post) -> None:
        """Its message is performed, and sends, again."""
        assignment = ours()
        run = Run(letters(1), assignment=assignment)
        post.refusing["results"] = TOO_LARGE

        assert isinstance(performed(passes("results"), run, producer), TooLargeError)
        assert run.outbox is not None
        run.outbox.mark(0, 0, assignment)
        assert assignment.marked == 0

    def test_it_does_not_wait_for_a_long_message_behind_it(self, producer: Producer, post: Post) -> None:
        """Once the listener has seen that what was sent before it is confirmed."""
        assignment, seen = ours(), []
        run = Run(letters(3), assignment=assignment)

        def handler(run: Run) -> None:
            assert run.outbox is not None
            for record in run:
                at = record.offset() or 0
                if at == 2:
                    for _ in range(2):
                        run.hasten()
                        seen.append(assignment.marked)
                        post.serve(0.0)
                run.outbox.send(at, "results", str(at))
                assert run.outbox.mark(at, at, assignment)

        assert performed(handler, run, producer) is None
        assert seen == [0, 2]
        assert assignment.marked == 3

    def test_what_was_not_confirmed_is_not_marked(self, producer: Producer, post: Post) -> None:
        assignment = ours()
        run = Run(letters(3), assignment=assignment)
        post.refusing["results"] = TOO_LARGE

        def handler(run: Run) -> None:
            assert run.outbox is not None
            for record in run:
                at = record.offset() or 0
                run.outbox.send(at, "results" if at else "others", str(at))
                run.outbox.mark(at, at, assignment)

        assert isinstance(performed(handler, run, producer), TooLargeError)
        assert assignment.marked == 1


class TestInTheHouse:
    def test_the_offset_waits(self, monkeypatch: pytest.MonkeyPatch, producer: Producer, post: Post) -> None:
        """What is not confirmed is not committed, however far the run has come."""
        committed: list[dict[tuple[str, int], int]] = []
        house = House(monkeypatch, handler=Confirmed(passes("results"), producer).perform)
        post.open = False

        def meanwhile(_seconds: float) -> None:
            house.clock.advance(5.0)
            house.listener._commits.turn(house.clock.monotonic(), house.listener._busy, idle=False)
            committed.append(dict(house.committed))
            post.answer()

        post.meanwhile = meanwhile
        house.send("orders", count=50)
        house.assign("orders", 0)
        house.turn(5)
        house.wait(2.0)

        assert committed[0] == {}
        assert house.committed == {("orders", 0): 50}

    def test_lanes_that_wait_for_confirmations_are_the_workers(
        self, monkeypatch: pytest.MonkeyPatch, producer: Producer
    ) -> None:
        """However short they are, as where there is one order: they wait side by side, not before the next turn."""
        policy = Policy(lane=offset_of, width=4)
        house = House(monkeypatch, policy=policy, handler=Confirmed(passes("results"), producer).perform)
        house.send("orders", count=8)
        house.assign("orders", 0)
        house.turn(5)
        partition = house.listener._partitions[Place("orders", 0)]
        partition.pace = 60e-6
        house.hands.lends = True
        house.send("orders", count=2)
        house.listener.step()

        assert len(house.hands.ready) > 0

    def test_what_is_not_delivered_is_told_and_tried_again_in_order(
        self, monkeypatch: pytest.MonkeyPatch, producer: Producer, post: Post
    ) -> None:
        """As what `perform` raises; behind it nothing is finished."""
        runs: list[list[int]] = []
        plain = passes("results")

        def handler(run: Run) -> None:
            runs.append(offsets(run.records))
            plain(run)

        house = House(monkeypatch, policy=Policy(), handler=Confirmed(handler, producer).perform)
        post.refusing["results"] = TOO_LARGE
        house.send("orders", count=4)
        house.assign("orders", 0)
        house.turn(2)
        assert [event.kind for event in house.heard(Failed)] == ["TooLargeError"]
        assert house.committed == {}

        post.refusing.clear()
        house.wait(3.0)
        house.wait(3.0)

        assert house.committed == {("orders", 0): 4}
        assert runs[0] == runs[1] == [0, 1, 2, 3]
