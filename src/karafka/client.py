"""The Kafka port: what the engine asks of a client. `confluent` implements it over confluent-kafka.

An offset is always the *next* to read, for committing and for starting alike. A consumer belongs to one thread, its
listener's: even `commit` and `pause` come from there (a second thread would wait for `fetch` to let it in). Nothing
that is given to the client as a callback can raise; what it has to say is kept as news until it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, TypeAlias

from karafka.delivery import Failure, Receipt
from karafka.letters import Letter
from karafka.messages import Header, Place, Record


class Effect(Enum):
    """What an error of the client means to the engine."""

    NEWS = "the client deals with it; a person may want to know"
    MISSING = "a topic is not there (yet)"
    OUT_OF_RANGE = "the position of a partition is not in the log: it stands still until it is placed anew"
    HOLD = "a person must act; the partition or topic stands still, the others go on"
    LOST = "the member was thrown out: nothing of its assignment may be committed"
    END = "the client is of no more use: the process ends in order"


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error that the client reported. `code` is Kafka's name for it; `place` where it is about one partition."""

    code: str
    text: str
    effect: Effect
    topic: str | None = None
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The broker's answer to a commit: what was asked for each place, and the codes of those that it refused."""

    offsets: Mapping[Place, int]
    errors: Mapping[Place, str] = field(default_factory=dict)


News: TypeAlias = Trouble | Answer


@dataclass(frozen=True, slots=True)
class Kept:
    """What the group has committed of a place: the next offset to read, and the text beside it."""

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class Identities:
    """Kafka's ids: of the cluster, and of each topic asked for; None for a topic that is not there.

    Topics that are `refused` to this user are left out.
    """

    cluster: str
    topics: Mapping[str, str | None]
    refused: frozenset[str] = frozenset()


class Rebalance(Protocol):
    """Who is told of partitions that come and go. Called inside `fetch` and `close`, on the listener's thread."""

    def assigned(self, places: Sequence[Place]) -> Mapping[Place, int]:
        """Partitions came: answer the offset to start each from."""

    def revoked(self, places: Sequence[Place]) -> None:
        """Partitions are about to go: still ours until this returns; what is committed here reaches the next owner."""

    def lost(self, places: Sequence[Place]) -> None:
        """Partitions went already: nothing of them may be committed any more."""


class Consumer(Protocol):
    """A member of a consumer group. All methods are its listener's thread's."""

    def subscribe(self, topics: Sequence[str], rebalance: Rebalance) -> None:
        """Take part in sharing out `topics`; again with others to change them."""

    def fetch(self, limit: int, timeout: float) -> list[tuple[Place, list[Record]]]:
        """Up to `limit` messages by partition, in order within each; waits up to `timeout` seconds for the first.

        Serves rebalances and news. Never raises for what Kafka does; see `slipped`.
        """

    def news(self) -> list[News]:
        """What was said since the last call."""

    def slipped(self) -> bool:
        """Whether a call was cut short since the last one, and may have taken messages with it: `seek` all then."""

    def committed(self, places: Sequence[Place], timeout: float) -> dict[Place, Kept | None]:
        """What the group has committed, None where there is nothing. Raises `BrokerError`."""

    def bounds(self, places: Sequence[Place], timeout: float) -> dict[Place, tuple[int, int]]:
        """The first offset kept and the one after the last, of each place. Raises `BrokerError`."""

    def at(self, places: Sequence[Place], moment: float, timeout: float) -> dict[Place, int]:
        """The offset of each place's first message of `moment` (seconds since 1970) or later, else the end.

        Raises `BrokerError`.
        """

    def partitions(self, topic: str, timeout: float) -> list[Place]:
        """All partitions of a topic, none if it does not exist. Raises `BrokerError`."""

    def seek(self, positions: Mapping[Place, int]) -> None:
        """Go on reading each place at that offset; what was fetched ahead is dropped. Raises `BrokerError`."""

    def position(self, places: Sequence[Place]) -> dict[Place, int]:
        """The offset after the last message delivered here, markers of transactions passed over; local, quick."""

    def pause(self, places: Sequence[Place]) -> None:
        """Stop fetching: what was fetched ahead is dropped, and fetched again after `resume`."""

    def resume(self, places: Sequence[Place]) -> None: ...

    def commit(self, offsets: Mapping[Place, Kept]) -> None:
        """Ask the broker to remember; returns at once, the `Answer` is among later news. Raises `BrokerError`."""

    def forgetful(self) -> bool:
        """Whether the group may have left partitions to nobody when this client was assigned its own.

        A cooperative member that comes back under its old name (`group.instance.id`) does not know what its former life
        was still to give up: whoever waits for that waits in vain, until something else makes the group share anew.
        """

    def rejoin(self, topics: Sequence[str], rebalance: Rebalance) -> None:
        """Leave, and take part anew: revocations run inside the next `fetch`; the group shares out all there is."""

    def member(self) -> object:
        """What the group knows this member by now: for offsets that a transaction commits. Raises `BrokerError`."""

    def reaches(self, topic: str, timeout: float) -> bool:
        """Whether this client itself gets an answer about `topic`."""

    def abandon(self) -> None:
        """Nothing it has to say counts any more; `close` may then be called on any thread."""

    def close(self) -> None:
        """Leave the group: revocations run inside. May wait for the broker."""


class Topics(Protocol):
    """What topics there are: asked by a thread beside the listener, so that a slow answer delays nobody."""

    def names(self, timeout: float) -> frozenset[str]:
        """All topics that are not Kafka's own. Raises `BrokerError`."""

    def ids(self, topics: Sequence[str], timeout: float) -> Identities:
        """The ids of these topics. Raises `BrokerError`, also where the broker has no ids to tell."""

    def committed(self, group: str, places: Sequence[Place], timeout: float) -> dict[Place, Kept | None]:
        """What `group` has committed, once no transaction that may change it is open. Raises `BrokerError`."""

    def pending(self, group: str, places: Sequence[Place], timeout: float) -> list[Place]:
        """Those of which what is committed is part of a transaction that has not ended. Raises `BrokerError`."""

    def unowned(self, group: str, topics: Sequence[str], timeout: float) -> frozenset[Place] | None:
        """Partitions of `topics` that no member of `group` has; None while they are being shared out.

        Raises `BrokerError`.
        """


class Refused(Exception):  # noqa: N818 - a way to answer, not an error by itself
    """Raised by `Sender.send` for a message that was not accepted."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class Posted(Protocol):
    """Called once for each message that was accepted, when it has ended, inside `serve`: must not raise."""

    def __call__(self, error: Any, receipt: Receipt, /) -> None:
        """`error` is the client's own, see `Sender.judge`; None where it has none."""


#: `Sender.send` as the client itself has it, by position: topic, value, key, partition, posted, None, timestamp,
#: headers. Raises whatever it raises; then the message was not accepted.
Quick: TypeAlias = Callable[
    [str, bytes | str | None, bytes | str | None, int, Posted, None, int, list[Header] | None], None
]


class Sender(Protocol):
    """The sending half of a client. Any thread."""

    #: `send`, at the least cost.
    quick: Quick

    def send(self, letter: Letter, posted: Posted) -> None:
        """Put a message on the client's queue; `posted` is called when it has ended, in a later `serve`.

        Raises `BufferError` when the queue is full, `Refused` for what was not accepted for another reason.
        """

    def judge(self, error: Any) -> Failure | None:
        """What it means that a message has ended with `error` and without an offset; None if it was delivered."""

    def serve(self, timeout: float) -> None:
        """Tell of the ends that are due, waiting up to `timeout` seconds for one."""

    def hasten(self, timeout: float) -> None:
        """`serve`, and meanwhile what lingers does not."""

    def waiting(self) -> int:
        """How many messages are accepted and not told of yet."""

    def purge(self, failure: Failure) -> None:
        """Give up all that is accepted: it fails with `failure` in the next `serve`."""

    def news(self) -> list[Trouble]:
        """What the client had to say since the last call; `Effect.END` when it is of no more use."""

    def statistics(self) -> str:
        """librdkafka's own, in JSON, as last told; empty before."""

    def close(self) -> None:
        """Let the client go: nothing is on its way. It refuses what is sent from here on."""

    def leave_behind(self) -> None:
        """This is a child, after a fork: the client's threads are not here, its end would wait for them for ever."""


class Remedy(Enum):
    """What can be done where a step of a transaction did not succeed."""

    AGAIN = "take the same step again"
    ABORT = "abort, and do the work again"
    FENCED = "nothing: another producer has taken over"
    END = "nothing with this client"


class Unsettled(Exception):  # noqa: N818 - a way to answer, not an error by itself
    """Raised by the steps of a transaction. `passes`: whether the reason may be gone the next time."""

    def __init__(self, remedy: Remedy, code: str, text: str, *, passes: bool = True) -> None:
        super().__init__(text)
        self.remedy = remedy
        self.code = code
        self.passes = passes


class Transactor(Sender, Protocol):
    """A `Sender` with a `transactional.id`. Its steps are one thread's at a time; all raise `Unsettled`."""

    @property
    def fenced(self) -> bool:
        """Whether another producer has taken over the id."""

    def ready(self, timeout: float) -> None:
        """Take over the id: what another producer of that id has not committed is aborted. Once, before all else."""

    def begin(self) -> None: ...

    def add_offsets(self, offsets: Mapping[Place, Kept], member: object, timeout: float) -> None:
        """Offsets to be committed with the transaction, for the group that `member` is in (`Consumer.member`)."""

    def commit(self, timeout: float) -> None:
        """All that was sent is confirmed, and the transaction committed."""

    def abort(self, timeout: float) -> None: ...
