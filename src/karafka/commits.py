"""What the broker is to remember: which partitions have news for it, and the one commit under way.

Commits are explicit and asynchronous, one in flight, each built from the live partitions of the turn that sends it:
the broker does not fence a member that commits what is not its own. The listener's thread's alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future

from karafka.client import Answer, Consumer, Kept
from karafka.errors import BrokerError
from karafka.events import CommitFailed, Committed, Events
from karafka.messages import Place
from karafka.metadata import Memo, encode
from karafka.partition import Partition, Progress, State

# A commit that is not answered by then is given up, and said so.
TIMEOUT = 10.0
# After so many finished messages a commit does not wait for its interval.
COUNT = 10_000
# How long to wait at most between commits that are refused.
REFUSED = 5.0
# What commits are refused for while partitions are shared out anew, or the group's coordinator moves or starts: it is
# over soon. So many in a row (about 3 s) are worth telling.
PASSING = frozenset(
    {
        "ILLEGAL_GENERATION",
        "REBALANCE_IN_PROGRESS",
        "STALE_MEMBER_EPOCH",
        "NOT_COORDINATOR",
        "COORDINATOR_NOT_AVAILABLE",
        "COORDINATOR_LOAD_IN_PROGRESS",
    }
)
LASTING = 5
# A right that is missing is told by its name, as trouble with the cluster.
NAMED = frozenset({"TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED"})
# How often partitions that are done are looked at for markers of transactions that came behind.
MARKERS = 5.0
# With nothing left to do it need not wait for its interval, only not follow at each message's heel.
IDLE_SHARE = 0.1


class Commits:
    """See the module. `interval` in seconds; `group` for the events."""

    def __init__(self, client: Consumer, events: Events, group: str, interval: float, now: float) -> None:
        self._client = client
        self._events = events
        self._group = group
        self._interval = interval
        self._last = now
        self._finished = 0
        self._wanted: dict[Partition, None] = {}
        self._flight: dict[Place, tuple[Partition, int, Memo]] = {}
        self._flown_at = now
        # Given up, and not answered yet: one that the broker takes late may come after, and undo, a later one.
        self._strays: dict[Place, list[tuple[Partition, int]]] = {}
        self._doubted: set[Place] = set()
        self._landed_at = float("-inf")
        # Committed, with nothing in hand: markers may still come.
        self._done: dict[Partition, None] = {}
        # Whether each partition is to be asked for by itself: the client says of all what was refused of one.
        self._alone = False
        self._looked = now
        # Who waits for the broker's word: that the partition is committed up to there.
        self._asked: list[tuple[Partition, Progress, Future[bool]]] = []
        self._urgent = False
        # How many commits were refused in a row, and why the last one.
        self._refusals = 0
        self._code = ""
        # Whether one was not answered, and none was since.
        self._unanswered = False

    def ask(self, partition: Partition, answer: Future[bool]) -> None:
        """Commit what is finished of `partition` now, and answer once the broker keeps it."""
        if not answer.set_running_or_notify_cancel():
            return
        progress = partition.progress
        if partition.keeps(progress):
            answer.set_result(True)
            return
        self._asked.append((partition, progress, answer))
        self.note(partition)

    def note(self, partition: Partition) -> None:
        """Somebody waits for what is to be kept of `partition`: commit it now."""
        self.want(partition)
        self._urgent = True

    def refuse(self, partition: Partition) -> None:
        """`partition` is going: whoever waits for a commit of it is told so at once."""
        for _, _, answer in (one for one in self._asked if one[0] is partition):
            answer.set_result(False)
        self._asked = [one for one in self._asked if one[0] is not partition]

    def want(self, partition: Partition, finished: int = 0) -> None:
        """`partition` has something to commit; `finished` messages more than before."""
        self._wanted[partition] = None
        self._finished += finished

    def done(self, partition: Partition) -> None:
        """A transaction has committed what is finished of it: markers may come behind."""
        self._done[partition] = None

    def forget(self, partition: Partition) -> None:
        """Not ours any more: an answer about it means nothing."""
        self.refuse(partition)
        self._wanted.pop(partition, None)
        self._done.pop(partition, None)
        if self._flight.get(partition.place, (None, 0, None))[0] is partition:
            del self._flight[partition.place]
        self._strays.pop(partition.place, None)
        self._doubted.discard(partition.place)

    @property
    def settled(self) -> bool:
        """Whether all that was finished is kept: nothing in flight or astray, nothing refused that would go again."""
        return not self._flight and not self._strays and all(one.committable is None for one in self._wanted)

    def give_up(self) -> None:
        """Nothing will be sent or answered any more: what is not kept is told."""
        places: dict[Place, None] = dict.fromkeys(self._flight)
        places |= {one.place: None for one in self._wanted if one.committable is not None}
        if places:
            self._tell_failed(tuple(places), "the last commit was not answered in time", "the next owner does it again")

    def wait(self, now: float) -> float:
        """Seconds until an idle listener has a commit to send; infinity if it has none."""
        if not self._wanted or self._flight:
            return float("inf")
        due = max(self._last, self._landed_at) + self._interval * IDLE_SHARE
        if self._refusals:
            due = max(due, self._flown_at + self._patience())
        return max(0.0, due - now)

    def turn(self, now: float, busy: Iterable[Partition], *, idle: bool) -> None:
        """Send a commit if one is due: each interval, after many messages, or soon when all is done (`idle`).

        `busy` are partitions whose running jobs have made progress that counts too.
        """
        if self._flight and now - self._flown_at > TIMEOUT:
            places = tuple(self._flight)
            for place, (partition, position, _) in self._flight.items():
                self._wanted[partition] = None
                self._strays.setdefault(place, []).append((partition, position))
            self._flight.clear()
            if not self._unanswered:
                self._unanswered = True
                self._tell_failed(places, f"a commit was not answered within {TIMEOUT:g} s")
        if self._flight:
            self._landed_at = now
            return
        if self._refusals and now - self._flown_at < self._patience():
            return
        if self._done and now - self._looked >= MARKERS:
            self._looked = now
            self._wanted |= dict.fromkeys(self._pass_markers(self._done))
        waited = now - self._last
        soon = idle and bool(self._wanted) and waited >= self._interval * IDLE_SHARE
        # A breath between one commit's answer and the next: under KIP-848 the client hands over no partition while one
        # is under way.
        breath = now - self._landed_at >= self._interval * IDLE_SHARE
        if self._urgent or (breath and (waited >= self._interval or self._finished >= COUNT or soon)):
            self._pass_markers([one for one in self._wanted if one.committable is not None])
            self.send([*self._wanted, *busy], now)

    def send(self, partitions: Iterable[Partition], now: float) -> None:
        """Ask for the finished prefix of each of `partitions`, which are ours in this turn, to be remembered.

        Safe inside a revocation too: there the client's position says nothing, it may count a message that the call
        under way has taken and not delivered yet.
        """
        self._last, self._finished, self._urgent = now, 0, False
        asked = [partition for partition in dict.fromkeys(partitions) if partition.state is not State.REVOKED]
        for partition in asked:
            self._wanted.pop(partition, None)
        flight = {one.place: (one, at, one.keep(at)) for one in asked if (at := one.committable) is not None}
        if not flight:
            return
        self._flown_at = now
        offsets = {place: Kept(position, encode(memo)) for place, (_, position, memo) in flight.items()}
        alone, self._alone = self._alone, False
        try:
            for asked_for in [{place: kept} for place, kept in offsets.items()] if alone else [offsets]:
                self._client.commit(asked_for)
        except BrokerError as error:
            self._wanted |= {partition: None for partition, _, _ in flight.values()}
            self._tell_failed(tuple(flight), str(error))
        else:
            self._flight |= flight

    def _pass_markers(self, partitions: Iterable[Partition]) -> list[Partition]:
        """Behind the last message there may be markers of transactions, which nobody ever receives.

        With nothing in hand the client's position is past them; committing that leaves no lag that nobody can work off.
        Returns the partitions whose finished prefix grew by it.
        """
        idle = {one.place: one for one in partitions if one.count == 0 and one.positioned and not one.unmarked}
        grown = []
        for place, position in self._client.position(list(idle)).items() if idle else ():
            if position > idle[place].offsets.finished:
                idle[place].offsets.finish(position)
                grown.append(idle[place])
        return grown

    def answered(self, answer: Answer) -> None:
        """The broker's word: what it keeps is told; what it refused is still ours to commit, as far as is known."""
        kept: dict[tuple[str, int], int] = {}
        refused: dict[str, list[Place]] = {}
        for place, offset in answer.offsets.items():
            if self._was_astray(place, offset):
                continue
            flown = self._flight.get(place)
            if flown is None or flown[1] != offset:
                continue  # of an assignment before
            del self._flight[place]
            partition, position, memo = flown
            if place in answer.errors:
                self._wanted[partition] = None
                refused.setdefault(answer.errors[place], []).append(place)
            else:
                self._keep(partition, position, memo)
                kept[place] = position
        if kept:
            self._refusals = 0
            self._unanswered = False
            self._events.tell(Committed(group=self._group, offsets=kept))
            self._answer()
        self._alone = self._alone or (bool(refused) and len(answer.offsets) > 1)
        if refused and not kept:
            self._refusals += 1
        for code, places in refused.items():
            # Again and again for the same reason: said once, until one is kept; what passes only if it does not.
            if code in PASSING:
                worth = self._refusals == LASTING
            else:
                worth = code not in NAMED and (self._refusals <= 1 or code != self._code)
            if worth:
                self._tell_failed(tuple(places), f"a commit was refused: {code}")
            self._code = code

    def _keep(self, partition: Partition, position: int, memo: Memo) -> None:
        partition.kept(position, memo)
        self._done[partition] = None
        if partition.place in self._doubted:
            self._doubt(partition)

    def _was_astray(self, place: Place, offset: int) -> bool:
        """Whether that is the answer to a commit that was given up. If the broker has taken it all the same, nobody
        knows whether before a later one or after: the later one is sent again.
        """
        strays = self._strays.get(place, [])
        found = next((one for one in strays if one[1] == offset), None)
        if found is None:
            return False
        strays.remove(found)
        if not strays:
            del self._strays[place]
        if place in self._flight:
            self._doubted.add(place)
        else:
            self._doubt(found[0])
        return True

    def _doubt(self, partition: Partition) -> None:
        """What the broker keeps of it is not known."""
        self._doubted.discard(partition.place)
        partition.doubt()
        self._wanted[partition] = None

    def _patience(self) -> float:
        """Seconds between refused commits: a rebalance under way is over soon, a missing right may take long."""
        return float(min(REFUSED, 0.05 * 2 ** min(self._refusals, 10)))

    def _answer(self) -> None:
        """Tell those who wait for what is committed by now."""
        asked, self._asked = self._asked, []
        for partition, progress, answer in asked:
            if partition.keeps(progress):
                answer.set_result(True)
            else:
                self._asked.append((partition, progress, answer))

    def _tell_failed(self, places: tuple[Place, ...], reason: str, then: str = "the next one carries it") -> None:
        self._events.tell(CommitFailed(group=self._group, places=places, error=f"{reason}; {then}"))
