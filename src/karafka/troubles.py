"""What is wrong with a cluster right now: each cause said once in plain words, until it is over.

The client says it again and again, for each broker and each group; a person needs to hear it once. What waiting cannot
help ends the process, if nothing ever worked: later it may be a change under way on the brokers. One for all
listeners of a cluster; any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Lock

from karafka.client import Trouble
from karafka.clock import Clock
from karafka.config import Settings
from karafka.diagnosis import HOPELESS, OF_THE_CLUSTER, Cause, Diagnosis, diagnose, mute
from karafka.events import ClientRecovered, ClientTroubled, ClusterRefused, Events

# How long to wait for the reason before it is told that there is none.
REASON = 1.0
# For so long after the cluster was back connections may fail that were begun before.
ECHO = 3.0
# What is wrong with one broker, and with the cluster if all are down.
OF_ONE_BROKER = frozenset({Cause.UNREACHABLE, Cause.UNRESOLVED})
# The exit status where waiting cannot help.
MISCONFIGURED = 1


class Troubles:
    """See the module. `kafka` are the settings in use; `ended(status, reason)` asks for the end of the process."""

    def __init__(self, kafka: Settings, events: Events, clock: Clock, ended: Callable[[int, str], None]) -> None:
        self._kafka = kafka
        self._events = events
        self._clock = clock
        self._ended = ended
        self._lock = Lock()
        self._open: dict[tuple[Cause, str], float] = {}
        # When each that was told was over.
        self._over_at: dict[tuple[Cause, str], float] = {}
        self._all_down: float | None = None
        # Why one broker at least is out of reach.
        self._reason: tuple[Diagnosis, str] | None = None
        self._worked = False
        self._over = False

    @property
    def any(self) -> bool:
        """Whether something is wrong, as far as is known. Without the lock: asked in every turn."""
        return bool(self._open) or self._all_down is not None

    def heard(self, group: str, trouble: Trouble, *, grave: bool = False) -> None:
        """The client of `group` reports an error; `grave`: about a topic for dead letters."""
        found = diagnose(trouble, self._kafka, group, grave=grave)
        if found is None:
            return
        with self._lock:
            if found.cause is Cause.ALL_DOWN:
                self._all_down = self._all_down or self._clock.monotonic()
            elif found.cause in OF_ONE_BROKER:
                self._reason = found, trouble.code
            else:
                self._say(group, found, trouble.code)
            hopeless = [cause for cause, _ in self._open if cause in HOPELESS]
            if self._all_down is not None and self._reason is not None and not hopeless:
                # As long as another broker answers, one that is away is none of a person's business; and who is
                # refused is not answered either.
                self._say(group, *self._reason)
            end = bool(hopeless) and self._all_down is not None and not self._worked and not self._over
            self._over = self._over or end
        if end:
            self._ended(MISCONFIGURED, "it cannot work so")

    def turn(self, group: str) -> None:
        """All brokers are down and nothing says why: after a while that is what is said."""
        with self._lock:
            down = self._all_down
            if down is not None and not self._open and self._clock.monotonic() - down >= REASON:
                self._say(group, *(self._reason or (mute(self._kafka), "_ALL_BROKERS_DOWN")))

    def works(self, group: str, topics: Iterable[str] = (), *, member: bool = False) -> None:
        """The cluster answered: with messages of `topics`, with a commit or an assignment (`member`)."""
        with self._lock:
            self._worked = True
            self._all_down = self._reason = None
            over = [key for key in self._open if key[0] in OF_THE_CLUSTER or key[0] is Cause.OTHER]
            over += [(Cause.TOPIC, topic) for topic in topics if (Cause.TOPIC, topic) in self._open]
            if member and (Cause.GROUP, group) in self._open:
                over.append((Cause.GROUP, group))
            since = min((self._open.pop(key) for key in over), default=None)
            self._over_at |= dict.fromkeys(over, self._clock.monotonic())
        if since is not None:
            self._events.tell(ClientRecovered(group=group, waited=self._clock.monotonic() - since))

    def _say(self, group: str, found: Diagnosis, code: str) -> None:
        now = self._clock.monotonic()
        if found.key in self._open or now < self._over_at.get(found.key, -ECHO) + ECHO:
            return
        self._open[found.key] = now
        kind = ClusterRefused if found.cause in HOPELESS and not self._worked else ClientTroubled
        self._events.tell(kind(group=group, code=code, error=found.sentence))
