"""What becomes of a message: retry and dead letter as data, and `judge`, which decides from it.

Values and one pure function; the listener acts on the verdict. Nothing here touches Kafka, threads or time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, cast

from karafka.checks import number
from karafka.errors import ConfigError, EnqueueError, ParseError, words
from karafka.messages import UNREADABLE, Header, Record, headers_of

MIB = 1024 * 1024
ErrorTypes: TypeAlias = tuple[type[BaseException], ...]


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next try: `first` seconds, then `factor` times more, up to `cap`, for ever.

    `jitter` spreads each delay by up to that share in both directions (0.1: ± 10 %), so that partitions which
    failed together do not come back together.

    `Backoff(1, 30).on(TimeoutError)` tries only those errors again, `.never(ValueError)` all but those: what is not
    worth another try goes to the dead letter topic at once. Where there is none it backs off like any failure, so
    that nothing is skipped. A group of exceptions is worth another try when each error in it is.
    """

    first: float = 1.0
    cap: float = 30.0
    factor: float = 2.0
    jitter: float = 0.1
    only: ErrorTypes = ()
    but: ErrorTypes = ()

    def __post_init__(self) -> None:
        for name in ("first", "cap", "factor", "jitter"):
            number(f"Backoff: {name}", getattr(self, name), 0)
        if not 0 < self.first <= self.cap:
            raise ConfigError(f"Backoff(first={self.first}, cap={self.cap}): 0 < first <= cap must hold (seconds)")
        if self.factor < 1:
            raise ConfigError(f"Backoff(factor={self.factor}): the delay must not shrink, factor >= 1")
        if self.jitter >= 1:
            raise ConfigError(f"Backoff(jitter={self.jitter}): a share of the delay, 0 <= jitter < 1")

    def on(self, *errors: type[BaseException]) -> Backoff:
        """The same, trying only these again (and what `on` named before)."""
        return replace(self, only=(*self.only, *_checked("on", errors)))

    def never(self, *errors: type[BaseException]) -> Backoff:
        """The same, never trying these again."""
        return replace(self, but=(*self.but, *_checked("never", errors)))

    def helps(self, error: BaseException) -> bool:
        """Whether trying again may help: with a group, whether it may help against each error in it.

        A parser's error stays what it is. A group may also be named itself, by `on` or `never`.
        """
        if any(isinstance(one, (ParseError, *self.but)) for one in within(error)):
            return False
        return not self.only or isinstance(error, self.only) or all(isinstance(one, self.only) for one in leaves(error))

    def delay(self, attempt: int, chance: float = 0.5) -> float:
        """Seconds to wait after the `attempt`-th try failed (from 1); `chance` in [0, 1) places the jitter."""
        exponent = min(attempt - 1, 1_000)
        try:
            plain = min(self.cap, self.first * self.factor**exponent)
        except OverflowError:
            plain = self.cap
        return plain * (1 + self.jitter * (2 * chance - 1))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Where a message goes once its tries are spent: `topic`, after `after` tries.

    It travels with its key, payload and headers as they came, and headers that say where from and why. What can
    never succeed (a parser's error, what the backoff's `never` names) goes there at once. Its partition goes on only
    when the broker has confirmed.

    `strategy(error, attempt)` may decide otherwise: it answers `Skip()`, `Retry(seconds)`, `Bury()`, or None for
    what is told above. A group of exceptions is shown to it whole; where it has nothing to say to that, each error in
    it: of the answers the longest `Retry` wins, then `Bury`, and `Skip` only where it is the answer to all.
    `producer` are librdkafka settings for its sending alone.

    `crashes`: what killed `after` processes is buried too, unperformed. After two ends in a row that nobody told of (a
    segmentation fault, out of memory) messages are performed one by one, each after a commit that names it.
    """

    topic: str
    after: int = 3
    strategy: Strategy | None = None
    crashes: bool = False
    producer: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.after, bool) or not isinstance(self.after, int) or self.after < 1:
            raise ConfigError(
                f"DeadLetter({self.topic!r}, after={self.after!r}): one try always happens, a whole number >= 1"
            )


Start: TypeAlias = Literal["earliest", "latest"]
Gap: TypeAlias = Literal["earliest", "latest", "stop"]
Marking: TypeAlias = Literal["auto", "manual"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a route's messages are taken, tried again and given up; complete, checked, shared by its partitions.

    `start` says where a group begins that has never read the topic, `on_gap` where it goes on when its offset is not
    in the log any more. `manual`: nothing but a mark finishes a message.
    `batch`: messages are finished or fail by batches. `max_messages` bounds a batch, or one hand-over of messages;
    `max_wait` (seconds) is how long a batch may gather, 0 for none; up to `batches` full ones are handed over at once.
    `lane` names the lane of a message where only those of one lane are in order, `width` how many are performed side by
    side; `ahead` is how many offsets may have been received beyond the oldest message that is not finished.
    `exactly_once`: offsets are committed by transactions, with what was sent.
    `high` and `high_bytes` say when a partition holds enough; it is fetched again at half of both.
    """

    retry: Backoff | None = field(default_factory=Backoff)
    dead_letter: DeadLetter | None = None
    start: Start = "earliest"
    on_gap: Gap = "earliest"
    manual: bool = False
    batch: bool = False
    max_messages: int = 2_000
    max_wait: float = 0.0
    batches: int = 1
    high: int = 10_000
    high_bytes: int = 16 * MIB
    lane: Callable[[Any], Hashable] | None = None
    width: int = 1
    ahead: int = 100_000
    exactly_once: bool = False


@dataclass(frozen=True, slots=True)
class Inside:
    """What a message carries, where that is another's: whose code performs it, and by which policy."""

    controller: str
    policy: Policy


# What `perform` may ask for, from inside.


class Asked(Exception):  # noqa: N818 - not an error: what user code wants to become of its message
    """Raised by `self.retry`, `bury`, `discard` and `abort`: not a failure of the code, but its decision."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class AskedRetry(Asked):
    """Try again after `after` seconds."""

    def __init__(self, after: float, reason: str = "") -> None:
        super().__init__(reason)
        self.after = number("self.retry(after)", after, 0)


class AskedBurial(Asked):
    """To the dead letter topic, now."""


def within(error: BaseException) -> Iterator[BaseException]:
    """`error`, and all that it holds if it is a group, and the groups in it, in order."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from within(one)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The same without the groups themselves."""
    return (one for one in within(error) if not isinstance(one, BaseExceptionGroup))


def asked(error: BaseException) -> BaseException | None:
    """What user code asks for by `error`, also from within a group, whatever else is in that; None if it just failed.

    Several tasks may ask for several things: what ends the process comes first, then what keeps the message.
    """
    wanted: tuple[type[BaseException] | tuple[type[BaseException], ...], ...]
    wanted = ((SystemExit, KeyboardInterrupt), AskedRetry, AskedBurial, Asked)
    found = list(leaves(error))
    return next((one for kind in wanted for one in found if isinstance(one, kind)), None)


# Verdicts.


@dataclass(frozen=True, slots=True)
class Retry:
    """The message stays first in its lane and is given out again after `after` seconds."""

    after: float

    def __post_init__(self) -> None:
        number("Retry(after)", self.after, 0)


@dataclass(frozen=True, slots=True)
class Split:
    """Somebody in the batch is to blame: after `after` seconds a smaller one is tried, until one stands alone."""

    after: float


@dataclass(frozen=True, slots=True)
class Bury:
    """The message goes to the route's dead letter topic; it is finished when the broker has confirmed that."""


@dataclass(frozen=True, slots=True)
class Skip:
    """The message is finished without having been performed, and an event says so."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The partition stands still at the message, until a person or a restart."""


@dataclass(frozen=True, slots=True)
class End:
    """User code asked the process to end with `status`: nothing from this message on is finished."""

    status: int


Verdict: TypeAlias = Retry | Split | Bury | Skip | Hold | End
Strategy: TypeAlias = Callable[[BaseException, int], Retry | Bury | Skip | None]


def judge(policy: Policy, error: BaseException, attempt: int, *, alone: bool = True, chance: float = 0.5) -> Verdict:
    """What becomes of a message whose `attempt`-th try (from 1) raised `error`.

    `alone`: no other message could be to blame. `chance` in [0, 1) places the jitter of a delay.
    """
    # These two alone end the process: burying would lose what the next one must read again. Everything else is a
    # failure, a leaked CancelledError or GeneratorExit too: one bad message must not stop a server for ever.
    match asked(error):
        case SystemExit() as end:
            return End(status=_status(end))
        case KeyboardInterrupt():
            return End(status=130)
        case AskedRetry(after=after):
            return Retry(after=after)
        case _:
            pass
    if isinstance(error, EnqueueError):
        # No fault of the message's: it waits until the queue takes it.
        return Retry(after=(policy.retry or Backoff()).delay(attempt, chance))
    verdict = _decide(policy, error, attempt, chance)
    if isinstance(verdict, Bury | Skip) and not alone:
        return Split(after=policy.retry.delay(1, chance) if policy.retry is not None else 0.0)
    return verdict


def _decide(policy: Policy, error: BaseException, attempt: int, chance: float) -> Verdict:
    grave, retry = policy.dead_letter, policy.retry
    if grave is not None:
        if grave.strategy is not None and (decided := _answer(grave.strategy, error, attempt)) is not None:
            return decided
        hopeless = retry is None or isinstance(asked(error), AskedBurial) or not retry.helps(error)
        if hopeless or attempt >= grave.after:
            return Bury()
    return Retry(after=retry.delay(attempt, chance)) if retry is not None else Hold()


def _answer(strategy: Strategy, error: BaseException, attempt: int) -> Retry | Bury | Skip | None:
    """What the strategy says to `error`; to a group that it has nothing to say to, what it says to each error in it."""
    answer = strategy(error, attempt)
    if answer is not None or not isinstance(error, BaseExceptionGroup):
        return answer
    answers = [strategy(one, attempt) for one in leaves(error)]
    retries = [one for one in answers if isinstance(one, Retry)]
    if retries:
        return max(retries, key=lambda one: one.after)
    said = [one for one in answers if not isinstance(one, Skip | None)]
    return said[0] if said else answers[0] if None not in answers else None


def _checked(method: str, errors: tuple[object, ...]) -> ErrorTypes:
    for one in errors:
        if not isinstance(one, type) or not issubclass(one, BaseException):
            raise ConfigError(f"Backoff.{method}({one!r}): types of exceptions are expected, such as TimeoutError")
    return cast("ErrorTypes", errors)


def _status(error: SystemExit) -> int:
    """The exit status that Python itself would give: None is 0, a number itself, a text 1."""
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1


# Kafka bounds a message with its headers: what is added stays small beside what came.
TEXT_LIMIT = 1024


def grave_headers(record: Record, group: str, attempt: int, error: BaseException, wall: float) -> list[Header]:
    """The headers of a buried message: its own as they came, then where from, why, how often, when.

    `wall` is the time of burial in seconds since 1970.
    """
    text = words(error).encode(errors="replace")[:TEXT_LIMIT]
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    added = {
        "topic": record.topic(),
        "partition": record.partition(),
        "offset": record.offset(),
        "group": group,
        "attempts": attempt,
        "error": kind,
        "buried-at": f"{wall:.3f}",
    }
    headers: list[Header] = [(f"karafka-{name}", str(value).encode()[:TEXT_LIMIT]) for name, value in added.items()]
    try:
        own = headers_of(record)
    except ParseError:
        own = [UNREADABLE]
    return [*own, *headers, ("karafka-reason", text)]
