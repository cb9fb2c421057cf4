"""What was sent, what became of it, and what that says about the promises; told as it comes, so a run may be long.

A *life* is one process, numbered from 0. A *term* is one assignment of one partition to one life. A message that is
performed in two terms is *repeated*, which is right only where the older term ended by a fault that took its last
commits with it: each repeat is put down to that fault, or found unexplained.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from tests.chaos.feeder import Burial, written
from tests.chaos.journal import Entry
from tests.chaos.messages import Fates

# A commit may be on its way for so long, on a busy machine, before the broker has it; so long may a batch take. What
# was confirmed is never repeated, however young (`regressed`): this finds who does not commit at all.
ON_ITS_WAY = 5.0
# After a broker was away: how long it may take until all members have heard what became of them.
RECOVERY = 20.0
# The broker's stamps are whole milliseconds.
STAMP = 0.001
# Of so many messages of a partition, the latest, it is known who performed them.
KEPT = 50_000

# Whose last commits a fault may take with it: none's, those of one life, of all. `burials`: of dead letters under way.
Reach: TypeAlias = Literal["nothing", "life", "all", "burials"]


@dataclass(slots=True)
class Strike:
    """A fault that happened, from `begun` until `over` (seconds since 1970)."""

    fault: str
    reach: Reach
    begun: float
    over: float = float("inf")
    life: int | None = None


@dataclass(frozen=True, slots=True)
class Life:
    """How a process ended. `at`: when it was gone, in seconds since 1970; `clean`: by itself, with the status due."""

    number: int
    who: str
    at: float
    clean: bool


FINDINGS = {
    "lost": "lost",
    "unordered": "order broken",
    "unexplained": "repeats that nothing explains",
    "late": "repeats of work that was due to be committed",
    "premature": "commits of what was not finished",
    "regressed": "terms that began behind what was committed",
    "misburied": "wrongly buried",
    "thrown_out": "memberships lost without a cause",
    "uncommitted": "partitions not committed up to their end",
    "unclean": "ends and waits that were not in order",
}


@dataclass(slots=True)
class Verdict:
    """What the ledger says. `repeats` counts, by fault, what was done again because of it."""

    sent: int = 0
    performed: int = 0
    buried: int = 0
    unconfirmed: int = 0
    repeats: Counter[str] = field(default_factory=Counter)
    reburied: Counter[str] = field(default_factory=Counter)
    #: The longest that what a kill undid was performed before it, in seconds.
    oldest: float = 0.0
    findings: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in FINDINGS})

    @property
    def duplicates(self) -> int:
        return self.repeats.total()

    @property
    def sound(self) -> bool:
        return not any(self.findings.values())

    def __str__(self) -> str:
        lines = [
            "SOUND" if self.sound else "BROKEN",
            f"{self.sent} sent and confirmed, {self.performed} performed, {self.buried} buried",
            f"repeats: {self.duplicates}{_shares(self.repeats)}",
        ]
        if self.oldest:
            lines.append(f"the oldest work that a kill undid was done {self.oldest:.2f} s before it")
        if self.unconfirmed:
            lines.append(f"never confirmed, so never promised: {self.unconfirmed}")
        if self.reburied:
            lines.append(f"buried again: {self.reburied.total()}{_shares(self.reburied)}")
        lines += [f"{words}: {len(self.findings[name])}" for name, words in FINDINGS.items()]
        for found in self.findings.values():
            lines += [f"  {one}" for one in found[:5]]
            lines += [f"  … and {len(found) - 5} more"] if len(found) > 5 else []
        return "\n".join(lines)


def _shares(counts: Counter[str]) -> str:
    told = ", ".join(f"{count} by {name}" for name, count in sorted(counts.items()))
    return f" ({told})" if told else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Seconds: between commits, and what a revocation waits for work that runs."""

    commit_interval: float = 1.0
    drain_timeout: float = 10.0


def judge(
    *,
    sent: Mapping[int, Sequence[int]],
    entries: Iterable[Entry],
    lives: Sequence[Life],
    committed: Mapping[int, int | None],
    ends: Mapping[int, int],
    bounds: Bounds,
    fates: Fates | None = None,
    burials: Iterable[Burial] = (),
    strikes: Sequence[Strike] = (),
) -> Verdict:
    """The verdict on what is all known already. See `Ledger`."""
    ledger = Ledger(sent, fates or Fates(), bounds, lives, strikes)
    ledger.take(entries)
    ledger.bury(burials)
    return ledger.close(committed, ends)


class Ledger:
    """See the module.

    `sent` has, by partition, the confirmed offset of each sequence (-1 for what the broker never confirmed); it,
    `lives` and `strikes` may grow while the ledger is told of entries and burials.
    """

    def __init__(
        self,
        sent: Mapping[int, Sequence[int]],
        fates: Fates,
        bounds: Bounds,
        lives: Sequence[Life],
        strikes: Sequence[Strike],
    ) -> None:
        self.verdict = Verdict()
        told = Told(lives, strikes, bounds, fates)
        self._accounts = {one: Account(one, offsets, told, self.verdict) for one, offsets in sent.items()}

    def take(self, entries: Iterable[Entry]) -> None:
        """What members wrote, in the order they did."""
        for entry in entries:
            self._accounts[entry.partition].waiting.append(entry)
        for account in self._accounts.values():
            account.go_on()

    def bury(self, burials: Iterable[Burial]) -> None:
        """What came to the dead letter topic, in its order."""
        for burial in burials:
            self._accounts[burial.partition].coming.append(burial)
        for account in self._accounts.values():
            account.go_on()

    @property
    def left(self) -> int:
        """How many messages that the broker has confirmed are neither performed, nor buried, nor passed over yet."""
        return sum(account.left for account in self._accounts.values())

    @property
    def passed(self) -> int:
        """How many were passed over: as good as lost."""
        return sum(len(account.passed) for account in self._accounts.values())

    def close(self, committed: Mapping[int, int | None], ends: Mapping[int, int]) -> Verdict:
        """All is told. `committed` and `ends` are the broker's, at the end, by partition."""
        for account in self._accounts.values():
            account.close()
        for partition, end in sorted(ends.items()):
            if committed.get(partition) != end:
                self.verdict.findings["uncommitted"].append(
                    f"partition {partition}: committed {committed.get(partition)}, its end is {end}"
                )
        return self.verdict


class Told:
    """What is known of the members, and of the faults that met them."""

    def __init__(self, lives: Sequence[Life], strikes: Sequence[Strike], bounds: Bounds, fates: Fates) -> None:
        self._lives = lives
        self.strikes = strikes
        self.bounds = bounds
        self.fates = fates
        self.young = bounds.commit_interval + ON_ITS_WAY

    def life(self, number: int) -> Life | None:
        """It, if it has ended."""
        return next((life for life in self._lives if life.number == number), None)

    def broker_trouble(self, since: float, until: float) -> Strike | None:
        """What met all members within that time, or shortly before."""
        return next(
            (one for one in self.strikes if one.reach == "all" and one.begun <= until and since <= one.over + RECOVERY),
            None,
        )

    def forgetful(self, since: float, until: float) -> Strike | None:
        """A member that knows nothing of what is finished above its offset, there within that time."""
        if self.fates.order == "partition":
            return None
        strangers = (one for one in self.strikes if one.fault == "foreign" and one.reach == "nothing")
        return next((one for one in strangers if one.begun <= until and since <= one.over), None)

    def end_of(self, life: int) -> Strike | None:
        """What ended that life otherwise than in order."""
        return next((one for one in self.strikes if one.reach == "life" and one.life == life), None)


class Key(NamedTuple):
    """Which term: the life, and its number there."""

    life: int
    number: int


@dataclass(slots=True)
class Term:
    """What is known of one. `start`: the sequence it begins with; `last`: by lane, the rank performed last."""

    begun: float
    start: int
    last: dict[int, int] = field(default_factory=dict)
    over: Entry | None = None
    #: When it was to be given up, and something ran on.
    overran: float = float("inf")
    #: Whether something in it takes longer than a revocation waits.
    slow: bool = False


class Account:
    """One partition's part of the ledger.

    `waiting` and `coming` are entries and burials that were not looked at yet: what is sent is known a moment later,
    sometimes, than what became of it.
    """

    def __init__(self, partition: int, offsets: Sequence[int], told: Told, verdict: Verdict) -> None:
        self._name = f"partition {partition}"
        self._partition = partition
        self._offsets = offsets
        self._told = told
        self._verdict = verdict
        self.waiting: deque[Entry] = deque()
        self.coming: deque[Burial] = deque()
        # What the broker confirmed: offsets, rising, and the sequence of each.
        self._rising, self._sequences = array("q"), array("q")
        self._known = 0
        # The sequences of each lane, and the rank of each sequence in its lane.
        self._lanes: dict[int, array[int]] = {}
        self._ranks = array("q")
        # By lane, the rank below which all is performed for the first time, poison, never confirmed, or passed over.
        self._due: dict[int, int] = {}
        self.passed: set[int] = set()
        self._firsts = 0
        # When poison was buried first, and last; and what may have happened only after it was: (when, finding, words).
        self._buried: dict[int, float] = {}
        self._buried_last: dict[int, float] = {}
        self._owed: dict[int, list[tuple[float, str, str]]] = {}
        self._terms: dict[Key, Term] = {}
        self._latest: dict[int, Entry] = {}
        # Performed twice, and why is not known yet.
        self._repeats: list[tuple[Entry, Entry]] = []
        # What is committed, as an offset; and all below which it covers, as a sequence; performed, and above that.
        self._committed, self._covered = 0, 0
        self._done: set[int] = set()

    @property
    def left(self) -> int:
        return len(self._rising) - self._firsts - len(self._buried) - len(self.passed)

    def go_on(self, *, all_is_sent: bool = False) -> None:
        """Look at what can be looked at."""
        while self._known < len(self._offsets):
            if (offset := self._offsets[self._known]) >= 0:
                self._rising.append(offset)
                self._sequences.append(self._known)
                self._verdict.sent += 1
            else:
                self._verdict.unconfirmed += 1
            members = self._lanes.setdefault(self._lane(self._known), array("q"))
            self._ranks.append(len(members))
            members.append(self._known)
            self._known += 1
        end = self._rising[-1] + 1 if self._rising else 0
        while self.waiting and (all_is_sent or _reaches(self.waiting[0]) <= end):
            self._take(self.waiting.popleft())
        while self.coming and (self.coming[0].offset < end or all_is_sent):
            self._bury(self.coming.popleft())
        self._repeats = [pair for pair in self._repeats if not self._put_down(*pair)]

    def close(self) -> None:
        """Nothing more comes: what is missing is lost, what is not explained never will be."""
        self.go_on(all_is_sent=True)
        for before, again in self._repeats:
            self._put_down(before, again, at_last=True)
        self._repeats = []
        for lane, members in self._lanes.items():
            due = members[self._due.get(lane, 0) :]
            self.passed.update(one for one in due if self._promised(one) and not self._poison(one))
        for sequence in sorted(self.passed):
            self._find("lost", f": sequence {sequence}, at offset {self._offsets[sequence]}, was never performed")
        for sequence in range(len(self._offsets)):
            if self._promised(sequence) and self._poison(sequence) and sequence not in self._buried:
                self._find("lost", f": sequence {sequence}, at offset {self._offsets[sequence]}, was never buried")

    def _find(self, finding: str, words: str) -> None:
        self._verdict.findings[finding].append(f"{self._name}{words}")

    def _poison(self, sequence: int) -> bool:
        return self._told.fates.of(self._partition, sequence).poison

    def _lane(self, sequence: int) -> int:
        return self._told.fates.lane(self._partition, sequence)

    def _promised(self, sequence: int) -> bool:
        return sequence < self._known and self._offsets[sequence] >= 0

    def _sequence(self, offset: int) -> int:
        """The sequence of the first message at `offset` or behind it."""
        index = bisect_left(self._rising, offset)
        return self._sequences[index] if index < len(self._sequences) else self._known

    def _take(self, entry: Entry) -> None:
        match entry.kind:
            case "assigned":
                self._assign(entry)
            case "performed":
                self._perform(entry)
            case "committed":
                self._commit(entry)
            case "refused":
                pass
            case _ if (term := self._terms.get(Key(entry.life, entry.term))) is not None:
                self._turn(term, entry)
            case _:
                self._find("unordered", f", life {entry.life}: {entry.kind} without an assignment")

    def _assign(self, entry: Entry) -> None:
        self._terms[Key(entry.life, entry.term)] = Term(entry.at, self._sequence(entry.offset))
        if entry.offset < self._committed:
            words = f"began at {entry.offset}, {self._committed} was committed"
            self._find("regressed", f", life {entry.life}, term {entry.term}: {words}")

    def _turn(self, term: Term, entry: Entry) -> None:
        """Something happened in a term that bears on its end."""
        match entry.kind:
            case "begun":
                takes = self._told.fates.of(self._partition, entry.sequence).takes
                term.slow = term.slow or takes > self._told.bounds.drain_timeout
            case "overran":
                term.overran = entry.at
            case "revoked":
                term.over = entry
            case "lost":
                term.over = entry
                # Whoever polls keeps its partitions, however long its work takes: only a broker takes them away.
                if self._told.broker_trouble(entry.at, entry.at) is None:
                    self._find("thrown_out", f", life {entry.life}: lost without a cause")

    # ── each once, and in order ──────────────────────────────────────────────────────────────────────────────

    def _perform(self, entry: Entry) -> None:
        sequence = entry.sequence
        self._verdict.performed += 1
        if not self._promised(sequence) or self._offsets[sequence] != entry.offset:
            if not 0 <= sequence < self._known or self._promised(sequence):
                self._find("lost", f": offset {entry.offset} was performed as sequence {sequence}")
            return
        self._follow(entry)
        lane, rank = self._lane(sequence), self._ranks[sequence]
        first = True
        if rank >= self._due.get(lane, 0):
            self._pass_over(entry)
            self._due[lane] = rank + 1
        elif sequence in self.passed:
            self.passed.remove(sequence)
        else:
            first = False
        self._firsts += first
        if sequence >= self._covered:
            self._done.add(sequence)
        before = self._latest.pop(sequence, None)
        if before is not None and not _same_term(before, entry):
            self._repeats.append((before, entry))
        elif before is None and not first:
            self._find("unexplained", f": sequence {sequence} was performed again, {KEPT} messages later")
        self._latest[sequence] = entry
        if len(self._latest) > KEPT:
            del self._latest[next(iter(self._latest))]

    def _pass_over(self, entry: Entry) -> None:
        """First performances of a lane follow each other, whoever's they are; over poison only once it is buried."""
        lane = self._lane(entry.sequence)
        for one in self._lanes[lane][self._due.get(lane, 0) : self._ranks[entry.sequence]]:
            if not self._promised(one):
                continue
            if self._poison(one):
                self._owe(one, entry.at, "unordered", f", life {entry.life}: sequence {entry.sequence} was performed")
            else:
                self.passed.add(one)
                self._find("unordered", f", life {entry.life}: sequence {entry.sequence} was performed before {one}")

    def _follow(self, entry: Entry) -> None:
        """Within a term each performance follows the one before of its lane, and the first one its start.

        Where lanes go side by side, what was performed before the term began may be known to be finished already.
        """
        term = self._terms.get(Key(entry.life, entry.term))
        if term is None:
            self._find("unordered", f", life {entry.life}: sequence {entry.sequence} came without an assignment")
            return
        lane, rank = self._lane(entry.sequence), self._ranks[entry.sequence]
        members, begin = self._lanes[lane], 0
        last = term.last.get(lane)
        if last is None:
            begin = bisect_left(members, term.start)
            last = begin - 1
        skipped = [one for one in members[last + 1 : rank] if self._promised(one) and not self._poison(one)]
        if rank <= last or not all(self._done_before(one, entry) for one in skipped):
            after = f"after {members[last]}" if last >= begin else f"first, from {term.start}"
            self._find("unordered", f", life {entry.life}, term {entry.term}: sequence {entry.sequence} came {after}")
        term.last[lane] = rank

    def _done_before(self, sequence: int, entry: Entry) -> bool:
        """Whether it was performed before the term of `entry`, and can be known to be by its commit."""
        before = self._latest.get(sequence)
        return self._told.fates.order != "partition" and before is not None and not _same_term(before, entry)

    # ── burials ──────────────────────────────────────────────────────────────────────────────────────────────

    def _bury(self, burial: Burial) -> None:
        """Poison is buried, as it was sent, and nothing else is."""
        sequence = self._sequence(burial.offset)
        if not self._promised(sequence) or self._offsets[sequence] != burial.offset or not self._poison(sequence):
            self._find("misburied", f": offset {burial.offset} is no poison, and was buried")
            return
        if burial.value != written(self._told.fates, self._partition, sequence):
            self._find("misburied", f": sequence {sequence} was buried as {burial.value!r}")
        if sequence in self._buried:
            self._count_reburied(sequence, burial)
        else:
            self._verdict.buried += 1
            self._buried[sequence] = burial.at
            for at, finding, words in self._owed.pop(sequence, ()):
                self._owe(sequence, at, finding, words)
        self._buried_last[sequence] = burial.at

    def _owe(self, sequence: int, at: float, finding: str, words: str) -> None:
        """What happened at `at` may have happened only once that message was buried."""
        buried = self._buried.get(sequence)
        if buried is None:
            self._owed.setdefault(sequence, []).append((at, finding, words))
        elif buried > at + STAMP:
            self._find(finding, f"{words} {buried - at:.3f} s before {sequence}, which is poison, was buried")

    def _count_reburied(self, sequence: int, again: Burial) -> None:
        """A burial takes until the broker confirms it, and a commit: whatever struck anyone since explains another."""
        before = self._buried_last[sequence]
        since = before - self._told.young
        for one in self._told.strikes:
            late = RECOVERY if one.reach == "all" else self._told.young
            if one.reach != "nothing" and one.begun <= again.at and since <= one.over + late:
                self._verdict.reburied[one.fault] += 1
                return
        if (stranger := self._told.forgetful(before, again.at)) is not None:
            self._verdict.reburied[stranger.fault] += 1
            return
        self._find("unexplained", f": offset {again.offset} was buried again after {again.at - before:.2f} s")

    # ── what is done again ───────────────────────────────────────────────────────────────────────────────────

    def _put_down(self, before: Entry, again: Entry, *, at_last: bool = False) -> bool:
        """Of two terms that performed the same message the older one is to explain why its work did not count.

        Whether that is known: how it ended may come to light only later; `at_last` it has to be.
        """
        older, younger = sorted((before, again), key=self._begun)
        term, life = self._terms.get(Key(older.life, older.term)), self._told.life(older.life)
        if term is None:
            return True  # without an assignment: found already
        if (stranger := self._told.forgetful(older.at, younger.at)) is not None:
            self._verdict.repeats[stranger.fault] += 1
            return True
        if term.over is None and life is None and not at_last:
            return False
        cause, ended, how = self._end(older, term, life)
        words = (
            f": sequence {older.sequence} was performed in life {older.life}{_who(life)}, "
            f"{ended - older.at:.2f} s before it {how}, and in life {younger.life}"
        )
        late = ended - older.at > self._told.young
        if cause is None:
            self._find("unexplained", words)
        elif cause.reach == "life" and late:
            # Only a broker that did not answer excuses a commit that did not come in time.
            trouble = self._told.broker_trouble(older.at, ended)
            if trouble is None:
                self._find("late", words)
            else:
                self._verdict.repeats[trouble.fault] += 1
        elif cause.reach == "all" and older.at < cause.begun - self._told.young:
            self._find("late", words)
        else:
            self._verdict.repeats[cause.fault] += 1
            if cause.reach == "life":
                self._verdict.oldest = max(self._verdict.oldest, ended - older.at)
        return True

    def _begun(self, entry: Entry) -> float:
        term = self._terms.get(Key(entry.life, entry.term))
        return term.begun if term is not None else 0.0

    def _end(self, entry: Entry, term: Term, life: Life | None) -> tuple[Strike | None, float, str]:
        """What is to blame for the end of a performance's term, when that was, and how."""
        if term.over is None:
            if life is None:
                return None, entry.at, "went on"
            return self._told.end_of(life.number) or self._told.broker_trouble(entry.at, life.at), life.at, "ended"
        over = term.over.at
        if entry.at >= term.overran:
            # A message that takes longer than a revocation waits is given to the next owner while it runs on.
            return Strike("slow", "all", 0.0) if term.slow else None, over, "was to give it up, and ran on"
        how = "lost it" if term.over.kind == "lost" else "gave it up"
        trouble = self._told.broker_trouble(entry.at, over)
        if trouble is None:
            # Killed while the last commit was on its way: what was given up in order was not committed yet.
            killed = self._told.end_of(entry.life)
            if killed is not None and killed.begun - over <= ON_ITS_WAY:
                return killed, over, how
        return trouble, over, how

    # ── commits ────────────────────────────────────────────────────────────────────────────────────────────

    def _commit(self, entry: Entry) -> None:
        """A commit covers finished work only; what the broker has confirmed is where the next term begins."""
        self._committed = max(self._committed, entry.offset)
        for one in range(self._covered, self._sequence(entry.offset)):
            self._covered = one + 1
            if one in self._done:
                self._done.remove(one)
            elif not self._promised(one):
                continue
            elif self._poison(one):
                self._owe(one, entry.at, "premature", f", life {entry.life}: committed {entry.offset}")
            else:
                self._find(
                    "premature", f", life {entry.life}: committed {entry.offset}, but sequence {one} was not finished"
                )


def _same_term(one: Entry, other: Entry) -> bool:
    return (one.life, one.term) == (other.life, other.term)


def _reaches(entry: Entry) -> int:
    """The offset up to which all must be known to be sent before the entry can be looked at."""
    return entry.offset + 1 if entry.kind == "performed" else entry.offset


def _who(life: Life | None) -> str:
    return f" ({life.who})" if life is not None else ""
