"""The run: messages flow, faults come as a seed has planned them, all is drained, the ledger says what it was worth.

What is random is planned from the seed; what the machine does meanwhile is not, so a seed repeats the plan, not the
run. One thread does it all: acts of several faults take turns on it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.brokers import new_group, new_topic
from tests.chaos.broker import Broker
from tests.chaos.faults import FAULTS, Fault, Steps, stopped
from tests.chaos.feeder import PARTITIONS, Feeder, Graveyard
from tests.chaos.ledger import Bounds, Ledger, Verdict
from tests.chaos.members import Protocol
from tests.chaos.messages import Fates, Order
from tests.chaos.scene import COMMIT_INTERVAL, DRAIN, SESSION, Scene, Until
from tests.process.servers import committed, ends

# Seconds from one look to the next.
LOOK = 0.05
# How long the group may take, once all faults of a round are over, until each partition goes on; and for what is left
# at the end. One that hangs has lost what it did not perform.
PATIENCE = 120.0
# A slow message takes so long, beyond the poll limit; a partition meets one each so many seconds.
LONG = SESSION / 1_000 + 1.5
SLOW_EACH = 25.0
# At most so many faults at a time, each so many seconds after the one before.
TOGETHER, APART = 3, 4.0
# A round without a fault that acts.
CALM = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a run is told. It ends after `rounds`, or after `minutes` and each fault once. `rate`: messages a second."""

    seed: int
    faults: Sequence[str] = tuple(FAULTS)
    rounds: int | None = None
    minutes: float | None = None
    protocol: Protocol = "eager"
    variants: tuple[str, ...] = ()
    order: Order = "partition"
    rate: int = 200

    @property
    def command(self) -> str:
        """What repeats it."""
        told = {
            "seed": self.seed,
            "protocol": self.protocol,
            "order": self.order if self.order != "partition" else None,
            "faults": ",".join(self.faults) if set(self.faults) != set(FAULTS) else None,
            "rounds": self.rounds,
            "minutes": self.minutes,
            "rate": self.rate,
        }
        options = [(name, value) for name, value in told.items() if value is not None]
        said = " ".join(f"--{name} {value}" for name, value in (*options, *(("variant", one) for one in self.variants)))
        return f"python -m tests.chaos {said}"

    def fates(self) -> Fates:
        """What the messages do."""
        slow = {"slow", "overstay"} & set(self.faults)
        return Fates(
            seed=self.seed,
            order=self.order,
            # Lanes go side by side only where they have something to do.
            usual=0.02 if self.order != "partition" else 0.0,
            poison=0.01 if {"poison", "grave"} & set(self.faults) else 0.0,
            failing=0.1 if "failures" in self.faults else 0.0,
            slow=PARTITIONS / self.rate / SLOW_EACH if slow else 0.001,
            long=LONG if slow else 0.3,
        )


class Planned(NamedTuple):
    """A fault of a round, `after` so many seconds; `seed`: of what is random in it."""

    fault: Fault
    after: float
    seed: str


def plan(settings: Settings) -> Iterator[Sequence[Planned]]:
    """Rounds without end: the faults that act are dealt from a shuffled deck, one to three at a time, then again."""
    chance = Random(f"{settings.seed}/plan")
    acting = [FAULTS[name] for name in settings.faults if FAULTS[name].act is not None]
    deck: list[Fault] = []
    number = 0
    while True:
        if not deck:
            deck = chance.sample(acting, len(acting))
        count = min(len(deck), chance.randint(1, TOGETHER))
        dealt, deck = deck[:count], deck[count:]
        after, planned = 0.0, []
        for fault in dealt:
            planned.append(Planned(fault, after, f"{settings.seed}/{number}/{fault.name}"))
            after += chance.uniform(0.0, APART)
        yield planned
        number += 1


def calm() -> Steps:
    """Nothing happens."""
    yield CALM


@dataclass(slots=True)
class Progress:
    """How far a run is, for whoever looks."""

    settings: Settings
    began: float = field(default_factory=time.monotonic)
    round: int = 0
    now: str = "starting"
    sent: int = 0
    #: Confirmed, and not yet performed or buried; and passed over, which is as good as lost.
    left: int = 0
    passed: int = 0
    #: How often each fault came; of what lies in the messages, in how many.
    strikes: Counter[str] = field(default_factory=Counter)
    verdict: Verdict = field(default_factory=Verdict)
    #: The longest time, by the faults of a round, until each partition went on.
    recoveries: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Acting:
    """A fault under way: what it waits for, until it comes true, or `by` when."""

    name: str
    steps: Steps
    until: Until | None = None
    by: float = 0.0

    def goes_on(self) -> bool:
        """Let it act if what it waits for is there; whether it is still under way. Raises `TimeoutError`."""
        late = time.monotonic() >= self.by
        if self.until is not None and not self.until.true():
            if late:
                raise TimeoutError(f"{self.name}: not within {self.until.timeout:g} s: {self.until.wish}")
            return True
        if self.until is None and not late:
            return True
        try:
            step = next(self.steps)
        except StopIteration:
            return False
        self.until = step if isinstance(step, Until) else None
        self.by = time.monotonic() + (step.timeout if isinstance(step, Until) else step)
        return True


class Chaos:
    """One run on `broker`, in `folder`, where journal and logs stay. `tell` hears of progress, on this thread."""

    def __init__(
        self, settings: Settings, broker: Broker, folder: Path, tell: Callable[[Progress], object] = lambda _: None
    ) -> None:
        self.settings = settings
        self.broker = broker
        self.folder = folder
        self.progress = Progress(settings)
        self.scene: Scene
        self._tell = tell
        self._fates = settings.fates()
        self._feeder: Feeder
        self._graveyard: Graveyard
        self._ledger: Ledger
        self._enough = False

    def run(self) -> Verdict:
        """All of it."""
        settings, bootstrap = self.settings, self.broker.bootstrap
        grave = new_topic(bootstrap, 1, {"message.timestamp.type": "LogAppendTime"})
        topic, group = new_topic(bootstrap, PARTITIONS), new_group()
        self._graveyard = Graveyard(bootstrap, grave)
        self._feeder = Feeder(bootstrap, topic, settings.rate, self._fates)
        with Scene(
            self.broker,
            topic=topic,
            grave=grave,
            group=group,
            folder=self.folder,
            protocol=settings.protocol,
            variants=settings.variants,
            order=settings.order,
            chance=Random(f"{settings.seed}/members"),
        ) as self.scene:
            bounds = Bounds(commit_interval=COMMIT_INTERVAL, drain_timeout=DRAIN)
            sent, lives, strikes = self._feeder.offsets, self.scene.lives, self.scene.strikes
            self._ledger = Ledger(sent, self._fates, bounds, lives, strikes)
            self._rounds()
            self._drain()
        self._graveyard.close()
        verdict = self._ledger.close(
            dict(enumerate(committed(bootstrap, group, topic, PARTITIONS))),
            dict(enumerate(ends(bootstrap, topic, PARTITIONS))),
        )
        verdict.findings["unclean"] += self.scene.unclean
        return verdict

    def stop(self) -> None:
        """End after the round under way. Any thread, and a signal's handler."""
        self._enough = True

    # ── rounds ───────────────────────────────────────────────────────────────────────────────────────────────

    def _rounds(self) -> None:
        """Until there are enough of them, or something stands still."""
        scene, settings = self.scene, self.settings
        # One is known by its name, and its successor is at work at once; the other is missed only after its session.
        # (The newer protocol refuses a successor for as long as the session of the dead one lasts.)
        scene.seat("resident" if settings.protocol != "consumer" else "", hasty=False)
        scene.seat("", hasty="overstay" in settings.faults)
        self._feeder.start()
        try:
            everybody = lambda: all(scene.works(seat.member) for seat in scene.seats)  # noqa: E731
            self._wait(Until(everybody, "work of all servers", PATIENCE))
            left = {name for name in settings.faults if FAULTS[name].act is not None}
            for planned in plan(settings):
                if self._over(left):
                    return
                self._round(planned)
                left -= {one.fault.name for one in planned}
                self.progress.round += 1
        except TimeoutError as error:
            scene.unclean.append(f"round {self.progress.round}: {error}")

    def _over(self, left: set[str]) -> bool:
        progress, settings = self.progress, self.settings
        if settings.rounds is not None and progress.round >= settings.rounds:
            return True
        minutes = (time.monotonic() - progress.began) / 60
        return self._enough or (settings.minutes is not None and not left and minutes >= settings.minutes)

    def _round(self, planned: Sequence[Planned]) -> None:
        """Its faults, each at its time, side by side; then the flow has to go on."""
        names = " + ".join(one.fault.name for one in planned) or "calm"
        begun = time.monotonic()
        waiting = list(planned)
        acting = [] if planned else [Acting("calm", calm())]
        while waiting or acting:
            while waiting and time.monotonic() >= begun + waiting[0].after:
                one = waiting.pop(0)
                assert one.fault.act is not None
                acting.append(Acting(one.fault.name, one.fault.act(self.scene, Random(one.seed))))
                self.progress.strikes[one.fault.name] += 1
            self.progress.now = " + ".join(one.name for one in acting) or "next"
            acting = [one for one in acting if self._goes_on(one)]
            self._look()
        self.progress.now = f"going on after {names}"
        tops = self._tops()
        begun = time.monotonic()
        wish = f"all partitions going on after {names}"
        self._wait(Until(lambda: all(new > old for new, old in zip(self._tops(), tops, strict=True)), wish, PATIENCE))
        took = time.monotonic() - begun
        self.progress.recoveries[names] = max(took, self.progress.recoveries.get(names, 0.0))

    def _goes_on(self, acting: Acting) -> bool:
        """Whether it is still under way. One that waits in vain is found, and ends the rounds; the others go on."""
        try:
            return acting.goes_on()
        except TimeoutError as error:
            self.scene.unclean.append(f"round {self.progress.round}: {error}")
            self.stop()
            return False

    def _tops(self) -> list[int]:
        return [self.scene.tail.top(partition) for partition in range(PARTITIONS)]

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────

    def _drain(self) -> None:
        """Nothing more is sent; what is left is worked off; the servers end in order."""
        scene = self.scene
        self.progress.now = "draining"
        self._feeder.stop()
        self._look()
        try:
            while left := self._ledger.left:
                wish = f"any of {left} messages that are left performed or buried"
                self._wait(Until(partial(self._fewer, left), wish, PATIENCE))
        except TimeoutError as error:
            scene.unclean.append(str(error))
        for seat in scene.seats:
            seat.taken = True
            try:
                for until in stopped(scene, seat.member, "the end of the run"):
                    self._wait(until)
            except TimeoutError as error:
                scene.unclean.append(f"{error}\n{seat.member.last_words}")
        self._look()

    def _fewer(self, left: int) -> bool:
        return self._ledger.left < left

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────────────

    def _wait(self, until: Until) -> None:
        """Look again and again until it is true. Raises `TimeoutError`."""
        by = time.monotonic() + until.timeout
        while not until.true():
            if time.monotonic() > by:
                raise TimeoutError(f"not within {until.timeout:g} s: {until.wish}")
            self._look()

    def _look(self) -> None:
        """Take in what happened, tell of it, and give the others their time."""
        scene, progress = self.scene, self.progress
        self._ledger.take(scene.read())
        self._ledger.bury(self._graveyard.read())
        progress.sent, progress.left, progress.passed = self._feeder.sent, self._ledger.left, self._ledger.passed
        progress.verdict = self._ledger.verdict
        progress.strikes |= Counter(
            {name: self._feeder.kinds[name] for name in self.settings.faults if FAULTS[name].act is None}
        )
        self._tell(progress)
        time.sleep(LOOK)
