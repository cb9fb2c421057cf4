"""Clients in memory that have a `transactional.id`, and what the brokers know of it.

`Notary` is a `client.Transactor`; all of one `Register` have the same id, and the last one that was ready has it.
What a step is to raise, or what happens in the midst of it, a test says beforehand.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from karafka import exactly_once, transactions
from karafka.client import Kept, Posted, Refused, Remedy, Unsettled
from karafka.delivery import Failure, Fault
from karafka.letters import Letter
from karafka.messages import Place
from karafka.producer import Producer
from tests.unit.post import Passing, Post, Receipt, without_threads

ABORTED = Failure(Fault.ABORTED, "_PURGE_QUEUE", "its transaction was aborted", retriable=False)
STATE = Failure(Fault.OTHER, "_STATE", "no transaction is open (_STATE)", retriable=False)

Meanwhile = Callable[[], object]


def unsettled(remedy: Remedy, code: str = "_X", *, passes: bool = True) -> Unsettled:
    """Why a step was not taken."""
    return Unsettled(remedy, code, f"said {code.lower()}", passes=passes)


class Register:
    """What the brokers know of one `transactional.id`, and all clients that were made with it."""

    def __init__(self, passing: Passing) -> None:
        self._passing = passing
        self.clients: list[Notary] = []
        self.owner: Notary | None = None
        #: What readers of committed messages see, and what a group has committed.
        self.seen: list[Letter] = []
        self.kept: dict[Place, Kept] = {}
        #: What each client raises in the next tries of a step, one each: before it took effect, or after.
        self.before: defaultdict[str, deque[BaseException]] = defaultdict(deque)
        self.after: defaultdict[str, deque[BaseException]] = defaultdict(deque)
        #: What happens first in each try of a step.
        self.meanwhile: dict[str, Meanwhile] = {}
        #: All tries of steps, in order, and how long each might take.
        self.steps: list[str] = []
        self.patience: list[float] = []
        #: The members by which offsets were committed.
        self.members: list[object] = []
        #: Set up by a test for each client that is made.
        self.dress: Callable[[Notary], object] = bool

    def make(self) -> Notary:
        self.clients.append(Notary(self, self._passing.wait))
        self.dress(self.clients[-1])
        return self.clients[-1]

    @property
    def payloads(self) -> list[Any]:
        """Of what is seen."""
        return [one.value for one in self.seen]

    def producer(self, **settings: Any) -> Producer:
        """One with this id."""
        return Producer({"transactional.id": "shop-1"}, sender=self.make, **settings)


class Notary(Post):
    """`client.Transactor`."""

    def __init__(self, register: Register, meanwhile: Callable[[float], object]) -> None:
        super().__init__(meanwhile)
        self._register = register
        self.fenced = False
        #: What was sent by the transaction that is open, and the offsets that it was given; None while none is.
        self.open_: list[Letter] | None = None
        self._offsets: dict[Place, Kept] = {}
        # Why a message of it was not delivered.
        self._failed: Failure | None = None
        self._dead = False

    def die(self, *, silently: bool = False) -> None:
        super().die(silently=silently)
        self._dead = True

    def send(self, letter: Letter, posted: Posted) -> None:
        if self.open_ is None:
            raise Refused(STATE)
        super().send(letter, posted)
        self.open_.append(letter)

    def _end(self, number: int, letter: Letter) -> tuple[Failure | None, Receipt]:
        failure, receipt = super()._end(number, letter)
        self._failed = self._failed or failure
        return failure, receipt

    # ── the steps ────────────────────────────────────────────────────────────────────────────────────────────

    def ready(self, timeout: float) -> None:
        self._begun("ready", timeout)
        former, self._register.owner = self._register.owner, self
        if former is not None:
            former.open_ = None
        self._ended("ready")

    def begin(self) -> None:
        self._begun("begin")
        if self.open_ is not None:
            raise Unsettled(Remedy.END, "_STATE", "one is open")
        self.open_, self._offsets, self._failed = [], {}, None
        self._ended("begin")

    def add_offsets(self, offsets: Mapping[Place, Kept], member: object, timeout: float) -> None:
        self._begun("add_offsets", timeout)
        self._offsets |= offsets
        self._register.members.append(member)
        self._ended("add_offsets")

    def commit(self, timeout: float) -> None:
        self._begun("commit", timeout)
        self.serve(0.0)
        if self.waiting():
            raise unsettled(Remedy.AGAIN, "_TIMED_OUT")
        if self._failed is not None:
            raise Unsettled(Remedy.ABORT, self._failed.code, self._failed.text, passes=self._failed.retriable)
        assert self.open_ is not None
        self._register.seen += self.open_
        self._register.kept |= self._offsets
        self.open_ = None
        self._ended("commit")

    def abort(self, timeout: float) -> None:
        self._begun("abort", timeout)
        if self.waiting():
            self.purge(ABORTED)
            self.serve(0.0)
        self.open_ = None
        self._ended("abort")

    def _begun(self, step: str, timeout: float = 0.0) -> None:
        register = self._register
        register.steps.append(step)
        register.patience.append(timeout)
        register.meanwhile.get(step, bool)()
        if register.before[step]:
            raise register.before[step].popleft()
        if self.closed or self._dead:
            raise unsettled(Remedy.END, "_FATAL")
        if step != "ready" and register.owner is not self:
            self.fenced = True
            raise Unsettled(Remedy.FENCED, "_FENCED", "another has taken over")

    def _ended(self, step: str) -> None:
        if self._register.after[step]:
            raise self._register.after[step].popleft()


def on_paper(monkeypatch: pytest.MonkeyPatch) -> tuple[Passing, Register]:
    """A register whose producers have no threads; time passes as the test has it."""
    passing = without_threads(monkeypatch)
    for module in (transactions, exactly_once):
        monkeypatch.setattr(module, "time", passing)
    return passing, Register(passing)
