"""The faults: each a name, a sentence, and an act, or, for what lies in the messages, a share of them.

An act is a generator that runs on the run's one thread beside others: it yields seconds, or an `Until`, and goes on
when they have passed or come true. What is random in it comes from `chance`, which the seed decides.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from tests.chaos.broker import Broker
from tests.chaos.members import Member
from tests.chaos.scene import Scene, Seat, Until

Steps: TypeAlias = Generator[float | Until, None, None]

# How long a server may take to leave once nothing runs: its last commit, its farewell, what it still has to send.
LEAVING = 30.0
FROZEN = 20.0


@dataclass(frozen=True, slots=True)
class Fault:
    """`act` is None for what lies in the messages."""

    name: str
    said: str
    act: Callable[[Scene, Random], Steps] | None = None


def kill9(scene: Scene, chance: Random) -> Steps:
    """At work mostly; sometimes while it stops, or, once more, while its successor starts."""
    seat = yield from taken(scene, chance)
    moment = chance.choices(("working", "starting", "stopping"), (4, 1, 1))[0]
    wait = chance.uniform(0.0, 0.3 if moment == "stopping" else 1.5)
    if moment == "stopping":
        seat.member.process.terminate()
        yield wait
    scene.kill(seat.member, "kill9")
    scene.fill(seat)
    if moment == "starting":
        yield wait
        scene.kill(seat.member, "kill9")
        scene.fill(seat)
    seat.taken = False


def stop(scene: Scene, chance: Random) -> Steps:
    """It finishes what it has in hand, and ends with status 0; nothing is done again because of it."""
    seat = yield from taken(scene, chance, hasty=False)
    scene.strike("stop", "nothing").over = scene.now()
    yield from stopped(scene, seat.member, "stop")
    scene.fill(seat)
    seat.taken = False


def overstay(scene: Scene, chance: Random) -> Steps:
    """It has a message in hand that takes longer than it may: it says so, and ends with status 2; with 0 where that
    message began long before, in an assignment that has ended meanwhile, and was done in time.
    """
    seat = yield from taken(scene, chance, hasty=True)
    member = seat.member
    yield Until(
        lambda: scene.busy(member) or member.status is not None, f"a slow message in hand of life {member.life}"
    )
    strike = scene.strike("overstay", "life", member.life)
    yield from stopped(scene, member, "overstay", {0, 2})
    strike.over = scene.now()
    scene.fill(seat)
    seat.taken = False


def restart(scene: Scene, chance: Random) -> Steps:
    """Killed with -9, and back after a moment, with the same data."""
    broker = yield from owned(scene)
    strike = scene.strike("restart", "all")
    broker.kill()
    yield chance.uniform(0.0, 3.0)
    back = broker.start()
    yield Until(back.done, "the broker back", 200.0)
    back.result()
    strike.over = scene.now()
    broker.taken = False


def freeze(scene: Scene, _chance: Random) -> Steps:
    """Connections stay open, nothing answers, for longer than any session lasts."""
    broker = yield from owned(scene)
    strike = scene.strike("freeze", "all")
    broker.freeze()
    yield FROZEN
    broker.thaw()
    strike.over = scene.now()
    broker.taken = False


def members(scene: Scene, chance: Random) -> Steps:
    """One more joins, works, and leaves in order; nothing is done again because of it."""
    scene.strike("members", "nothing").over = scene.now()
    guest = scene.guest(chance)
    yield Until(lambda: scene.works(guest), f"work of the newcomer, life {guest.life}", 90.0)
    yield chance.uniform(1.0, 5.0)
    yield from stopped(scene, guest, "members")


def foreign(scene: Scene, chance: Random) -> Steps:
    """A bare client in the same group takes its share, then leaves in order, or is killed."""
    stranger = scene.stranger()
    presence = scene.strike("foreign", "nothing", stranger.life)
    yield Until(lambda: scene.works(stranger), f"work of the stranger, life {stranger.life}", 90.0)
    yield chance.uniform(1.0, 5.0)
    if chance.random() < 0.5:
        scene.kill(stranger, "foreign")
    else:
        yield from stopped(scene, stranger, "foreign")
    presence.over = scene.now()


# With 1 a topic refuses all. (`min.insync.replicas` does not do it: Kafka 4 asks for no more copies than there can be.)
REFUSING = "max.message.bytes"


def grave(scene: Scene, chance: Random) -> Steps:
    """Poison waits, and its partition with it, until it can be buried."""
    strike = scene.strike("grave", "burials")
    yield from altered(scene, "1")
    yield chance.uniform(5.0, 12.0)
    yield from altered(scene, None)
    strike.over = scene.now()


FAULTS: Mapping[str, Fault] = {
    one.name: one
    for one in (
        Fault("kill9", "a server is killed with -9", kill9),
        Fault("stop", "a server is stopped, and another takes its place", stop),
        Fault("overstay", "a server is stopped with more in hand than its time-out allows", overstay),
        Fault("restart", "the broker is killed with -9 and started again", restart),
        Fault("freeze", f"the broker stands still for {FROZEN:g} s", freeze),
        Fault("members", "one more server joins, and leaves", members),
        Fault("foreign", "a member that is not ours joins, and leaves or is killed", foreign),
        Fault("grave", "the dead letter topic refuses all for a while", grave),
        Fault("poison", "one message in a hundred can never be performed"),
        Fault("failures", "one message in ten fails at first"),
        Fault("slow", "some messages take longer than the poll limit"),
    )
}


# ── steps that acts share ────────────────────────────────────────────────────────────────────────────────────────


def taken(scene: Scene, chance: Random, *, hasty: bool | None = None) -> Generator[Until, None, Seat]:
    """A server that no other fault is at; `hasty`: only one that has, or has not, little patience with what runs."""
    fit = [seat for seat in scene.seats if hasty is None or seat.hasty is hasty]
    yield Until(lambda: any(not seat.taken for seat in fit), "a server that no other fault is at", 180.0)
    seat = chance.choice([seat for seat in fit if not seat.taken])
    seat.taken = True
    return seat


def owned(scene: Scene) -> Generator[Until, None, Broker]:
    """The broker, once no other fault is at it."""
    yield Until(lambda: not scene.broker.taken, "the broker left alone", 180.0)
    scene.broker.taken = True
    return scene.broker


def stopped(
    scene: Scene, member: Member, fault: str, expected: frozenset[int] | set[int] = frozenset({0})
) -> Generator[Until, None, None]:
    """Ask it to stop, and see it end with a status as expected."""
    begun = scene.now()
    member.process.terminate()
    limit = member.told.shutdown_timeout + LEAVING
    yield Until(lambda: member.status is not None, f"the end of life {member.life}, by {fault}", limit)
    scene.ended(member, begun, expected)


def altered(scene: Scene, value: str | None) -> Generator[Until, None, None]:
    """Have the dead letter topic refuse, or take again, however often the broker has to be asked."""
    for _ in range(5):
        answer = scene.broker.alter(scene.grave, REFUSING, value)
        yield Until(answer.done, f"{REFUSING} of the dead letter topic altered", 120.0)
        if answer.exception() is None:
            return
    raise TimeoutError(f"{REFUSING} of the dead letter topic could not be altered: {answer.exception()}")
