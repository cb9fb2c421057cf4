"""A call that takes too long is interrupted, once, and nothing of that is felt outside of it."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from threading import Event, Lock, Thread
from time import monotonic, sleep

import pytest

from karafka import limits
from karafka.errors import MessageError, TimeLimitError
from karafka.limits import TimeLimits
from tests.brokers import until


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[TimeLimits]:
    """One that looks more often than it would, so that tests are short."""
    monkeypatch.setattr(limits, "LOOK", 0.005)
    made = TimeLimits()
    yield made
    made.stop()


def busy(seconds: float) -> None:
    """Steps of Python for so long."""
    by = monotonic() + seconds
    while monotonic() < by:
        pass


def as_told(length: float, error: Exception | None) -> str:
    busy(length)
    if error is not None:
        raise error
    return "ended"


def raising(error: BaseException) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


class TestOneCall:
    def test_what_ends_in_time_is_as_if_nobody_watched(self, watch: TimeLimits) -> None:
        assert watch.call(lambda: 7, 60.0) == 7
        with pytest.raises(ValueError, match="mine"):
            watch.call(raising(ValueError("mine")), 60.0)
        with pytest.raises(SystemExit):
            watch.call(raising(SystemExit(3)), 60.0)

    def test_what_takes_longer_is_cut_off_and_says_so(self, watch: TimeLimits) -> None:
        since = monotonic()
        with pytest.raises(TimeLimitError, match=r"it took longer than its time_limit of 0\.02 s") as cut:
            watch.call(lambda: busy(60), 0.02)

        assert monotonic() - since < 30
        assert isinstance(cut.value, MessageError), "what becomes of the message is its policy's"

    def test_what_it_catches_of_exceptions_is_its_own(self, watch: TimeLimits) -> None:
        """`except Exception` in user code does not take the limit for a failure of what it tried."""
        caught: list[Exception] = []

        def careful() -> None:
            for _ in range(100):
                try:
                    busy(0.5)
                except Exception as error:  # noqa: BLE001 - that is the point
                    caught.append(error)

        with pytest.raises(TimeLimitError):
            watch.call(careful, 0.02)
        assert caught == []

    def test_who_catches_everything_is_struck_again(self, watch: TimeLimits, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "AGAIN", 0.05)
        struck: list[str] = []

        def deaf() -> None:
            while len(struck) < 3:
                try:
                    busy(60)
                except BaseException as error:  # noqa: BLE001 - that is the point
                    struck.append(type(error).__name__)

        watch.call(deaf, 0.02)  # it came to its own end
        assert struck == ["_Struck"] * 3

    def test_it_cleans_up_on_its_way_out(self, watch: TimeLimits) -> None:
        """Which may take a while: it is not struck again at once."""
        lock, cleaned = Lock(), list[str]()

        def holding() -> None:
            with lock:
                try:
                    busy(60)
                finally:
                    busy(0.3)
                    cleaned.append("up")

        with pytest.raises(TimeLimitError):
            watch.call(holding, 0.02)
        assert not lock.locked()
        assert cleaned == ["up"]

    def test_a_call_that_waits_in_c_ends_first(self, watch: TimeLimits) -> None:
        """Python cannot be interrupted there; it is cut off before its next step."""
        went_on = Event()

        def waiting() -> None:
            sleep(0.3)
            went_on.set()

        since = monotonic()
        with pytest.raises(TimeLimitError):
            watch.call(waiting, 0.02)
        assert monotonic() - since >= 0.3
        assert not went_on.is_set()

    def test_what_it_raises_on_its_way_out_is_why_it_failed(self, watch: TimeLimits) -> None:
        def translating() -> None:
            try:
                busy(60)
            except BaseException:  # noqa: BLE001 - that is the point
                raise ValueError("mine") from None

        with pytest.raises(ValueError, match="mine"):
            watch.call(translating, 0.02)

    def test_a_thread_watches_from_the_first_call_on(self) -> None:
        """And no longer than it is wanted."""
        watch = TimeLimits()
        before = watch._thread
        watch.call(lambda: None, 60.0)
        thread = watch._thread
        assert before is None
        assert thread is not None
        assert thread.name == "karafka-time-limits"
        assert thread.daemon
        watch.call(lambda: None, 60.0)
        assert watch._thread is thread
        watch.stop()
        thread.join(10)
        assert not thread.is_alive()


class TestManyThreads:
    def test_who_is_in_time_is_not_struck_for_who_is_late(self, watch: TimeLimits) -> None:
        begun, ended = Event(), Event()
        found: list[object] = []

        def patient() -> None:
            def waits() -> str:
                begun.set()
                while not ended.is_set():
                    busy(0.001)
                return "in time"

            found.append(watch.call(waits, 60.0))

        thread = Thread(target=patient)
        thread.start()
        assert begun.wait(10)
        with pytest.raises(TimeLimitError):
            watch.call(lambda: busy(60), 0.02)
        ended.set()
        thread.join(10)
        assert found == ["in time"]

    def test_nobody_is_remembered_who_has_ended(self, watch: TimeLimits) -> None:
        with suppress(TimeLimitError):
            watch.call(lambda: busy(60), 0.01)
        watch.call(lambda: None, 0.01)
        assert watch._timed == {}

    # Python tells of what is raised where it collects, and ignores it; a strike may fall there.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    @pytest.mark.parametrize("longest", [0.000_03, 0.003], ids=["as short as can be", "short"])
    def test_a_strike_at_any_moment_is_felt_inside_of_its_call_alone(
        self, monkeypatch: pytest.MonkeyPatch, longest: float
    ) -> None:
        """Limits and calls of the same length, without a pause: what is struck just as it ends was struck, or was not.
        Nothing else ever comes out, neither from the call nor behind it.
        """
        monkeypatch.setattr(limits, "LOOK", 0.0)
        watch, outcomes, leaks = TimeLimits(), Counter[str](), list[BaseException]()
        least, most = monotonic() + 1.0, monotonic() + 20.0

        def enough() -> bool:
            return min(outcomes[one] for one in ("ended", "late", "failed")) > 10

        def calls(seed: int) -> None:
            chance = random.Random(seed)
            try:
                while monotonic() < least or not (enough() or monotonic() > most):
                    error = ValueError() if chance.random() < 0.1 else None
                    function = partial(as_told, chance.random() * longest, error)
                    try:
                        outcomes[watch.call(function, chance.random() * longest)] += 1
                    except TimeLimitError:
                        outcomes["late"] += 1
                    except ValueError:
                        outcomes["failed"] += 1
                    busy(longest / 3)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it should not be here
                leaks.append(error)

        interval = sys.getswitchinterval()
        sys.setswitchinterval(0.000_01)
        try:
            threads = [Thread(target=calls, args=(seed,)) for seed in range(8)]
            for thread in threads:
                thread.start()
            until(lambda: not any(thread.is_alive() for thread in threads), 30)
        finally:
            sys.setswitchinterval(interval)
            watch.stop()

        assert leaks == []
        assert watch._timed == {}
        assert enough(), outcomes
