"""What becomes of a message: retry and dead letter as data, and `judge`, which decides from it.

Values and one pure function; the listener acts on the verdict. Nothing here touches Kafka, threads or time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from karafka.errors import ConfigError, ParseError
from karafka.messages import Header, Record

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next try: `first` seconds, then `factor` times more, up to `cap`, for ever.

    `jitter` spreads each delay by up to that share in both directions (0.1: ± 10 %), so that partitions which
    failed together do not come back together.
    """

    first: float = 1.0
    cap: float = 30.0
    factor: float = 2.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.first <= self.cap:
            raise ConfigError(f"Backoff(first={self.first}, cap={self.cap}): 0 < first <= cap must hold (seconds)")
        if self.factor < 1:
            raise ConfigError(f"Backoff(factor={self.factor}): the delay must not shrink, factor >= 1")
        if not 0 <= self.jitter < 1:
            raise ConfigError(f"Backoff(jitter={self.jitter}): a share of the delay, 0 <= jitter < 1")

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
    never succeed (a parser's error) goes there at once. Its partition goes on only when the broker has confirmed.
    """

    topic: str
    after: int = 3

    def __post_init__(self) -> None:
        if self.after < 1:
            raise ConfigError(f"DeadLetter({self.topic!r}, after={self.after}): one try always happens, after >= 1")


Start: TypeAlias = Literal["earliest", "latest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a route's messages are taken, tried again and given up; complete, checked, shared by its partitions.

    `batch`: a run is finished or fails as a whole. `max_messages` bounds one hand-over; `max_wait` (seconds) is how
    long a batch may gather, 0 for none.
    `high` and `high_bytes` say when a partition holds enough; it is fetched again at half of both.
    """

    retry: Backoff = field(default_factory=Backoff)
    dead_letter: DeadLetter | None = None
    start: Start = "earliest"
    batch: bool = False
    max_messages: int = 2_000
    max_wait: float = 0.0
    high: int = 10_000
    high_bytes: int = 16 * MIB


@dataclass(frozen=True, slots=True)
class Advance:
    """All of it is finished: the partition goes on."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The message stays first in its lane and is given out again after `after` seconds."""

    after: float


@dataclass(frozen=True, slots=True)
class Split:
    """Somebody in the batch is to blame: after `after` seconds a smaller one is tried, until one stands alone."""

    after: float


@dataclass(frozen=True, slots=True)
class Bury:
    """The message goes to `topic`; it is finished when the broker has confirmed that."""

    topic: str


@dataclass(frozen=True, slots=True)
class End:
    """User code asked the process to end: nothing from this message on is finished; `status` is the exit status."""

    status: int


Verdict: TypeAlias = Advance | Retry | Split | Bury | End


def judge(
    policy: Policy, error: BaseException | None, attempt: int, *, alone: bool = True, chance: float = 0.5
) -> Verdict:
    """What becomes of a message after its `attempt`-th try (from 1) that raised `error`, or did not (None).

    `alone`: no other message could be to blame. `chance` in [0, 1) places the jitter of a delay.
    """
    if error is None:
        return Advance()
    # These two alone end the process: burying would lose what the next one must read again. Everything else is
    # a failure, a leaked CancelledError or GeneratorExit too: one bad message must not stop a server for ever.
    if isinstance(error, SystemExit):
        return End(status=_status(error))
    if isinstance(error, KeyboardInterrupt):
        return End(status=130)
    grave = policy.dead_letter
    if grave is not None and (attempt >= grave.after or isinstance(error, ParseError)):
        return Bury(topic=grave.topic) if alone else Split(after=policy.retry.delay(1, chance))
    return Retry(after=policy.retry.delay(attempt, chance))


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
    text = str(error).encode(errors="replace")[:TEXT_LIMIT]
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
    return [*(record.headers() or ()), *headers, ("karafka-reason", text)]
