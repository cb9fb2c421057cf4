"""Whatever becomes of the broker: each message accepted ends once, delivered or failed, and what is said of it is true.

The programs here keep a ledger of each message that they wanted to send: whether it was accepted, what its callback was
told, and how often. It is held against what is on the topic in the end.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from karafka.devbroker import Kafka
from tests.brokers import new_topic, until
from tests.process.senders import Post
from tests.process.servers import Server

# They share a Kafka that each may kill.
pytestmark = pytest.mark.xdist_group("deaths")

# How long Kafka may take to start on a machine that is busy.
PATIENCE = 120.0
# How long a message may be on its way, and how long sending waits for room.
TIMEOUT, ROOM = 8.0, 0.2

# `Ledger(sender)` and the ways in which its threads send. Names of messages are their payloads, too.
LEDGER = f"""
import json
from collections import Counter
from contextlib import suppress

class Ledger:
    def __init__(self, sender, name, rows):
        self.sender, self.name, self.rows = sender, name, rows
        # Handles of what was accepted, errors of what was refused, and how often callbacks were told what.
        self.accepted, self.refused, self.told = {{}}, {{}}, Counter()
        self.over = threading.Event()

    def post(self, mark):
        try:
            handle = self.sender.produce_async(TOPIC, mark, label=mark)
        except DeliveryError as error:
            self.refused[mark] = type(error).__name__
            if isinstance(error, ProducerClosedError):
                self.over.set()
            return None
        self.take(handle)
        return handle

    def take(self, handle):
        if handle._desk is None:  # one of many: it failed since it was not accepted
            self.refused[handle.label] = type(handle.error).__name__
            return
        self.accepted[handle.label] = handle
        handle.add_done_callback(lambda ended: self.told.update([(ended.label, outcome(ended))]))

    def streams(self, name, pause):
        for mark in self.marks(name):
            self.post(mark)
            time.sleep(pause)

    def waits(self, name, pause):
        for mark in self.marks(name):
            handle = self.post(mark)
            if handle is not None:
                with suppress(DeliveryError):
                    handle.wait()

    def sends_many(self, name, pause):
        for mark in self.marks(name):
            with suppress(ProducerClosedError):
                marks = [f"{{mark}}.{{one}}" for one in range(self.rows)]
                handles = self.sender.produce_many_async(
                    {{"topic": TOPIC, "payload": one, "label": one}} for one in marks
                )
                for handle in handles:
                    self.take(handle)
                with suppress(PartlyDeliveredError):
                    handles.wait()
            time.sleep(pause)

    def awaits(self, name, pause):
        async def main():
            for mark in self.marks(name):
                handles = [handle for one in range(10) if (handle := self.post(f"{{mark}}.{{one}}")) is not None]
                await asyncio.gather(*map(ended, handles))
                await asyncio.sleep(pause if handles else 0.05)

        asyncio.run(main())

    def marks(self, name):
        number = 0
        while not self.over.is_set():
            number += 1
            yield f"{{self.name}} {{name}} {{number}}"

    def start(self, pause=0.001):
        ways = self.streams, self.waits, self.sends_many, self.awaits
        self.threads = [threading.Thread(target=way, args=(way.__name__, pause)) for way in ways]
        for thread in self.threads:
            thread.start()

    def join(self):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def counts(self):
        outcomes = [outcome(handle).split()[0] for handle in list(self.accepted.values()) if handle.done]
        found = Counter(outcomes)
        return {{"delivered": found["delivered"], "failed": found["failed"], "refused": len(self.refused)}}

    # All that was accepted has been told of, or never will be.
    def settle(self):
        by = time.monotonic() + 10
        while len(self.told) < len(self.accepted) and time.monotonic() < by:
            time.sleep(0.01)
        return {{
            "accepted": {{mark: outcome(handle) for mark, handle in self.accepted.items()}},
            "refused": self.refused,
            "told": [[*told, count] for told, count in self.told.items()],
        }}

async def ended(handle):
    with suppress(DeliveryError):
        await handle

def outcome(handle):
    if not handle.done:
        return "on its way"
    if handle.error is not None:
        return f"failed {{type(handle.error).__name__}}"
    delivery = handle.result()
    return f"delivered {{delivery.partition}} {{delivery.offset}}"

def ledger(name, rows=20, **kafka):
    settings = {{"queue.buffering.max.messages": 1000, "message.timeout.ms": {TIMEOUT * 1000:.0f}, **kafka}}
    return Ledger(Producer({{"bootstrap.servers": BOOTSTRAP, **settings}}, max_wait_on_full={ROOM}), name, rows)

"""


@dataclass(frozen=True, slots=True)
class Account:
    """The ledgers of a program, put together."""

    accepted: dict[str, str]
    refused: dict[str, str]
    told: list[tuple[str, str, int]]

    @classmethod
    def read(cls, path: Path) -> Account:
        pages: list[dict[str, Any]] = json.loads(path.read_text())
        accepted: dict[str, str] = {}
        refused: dict[str, str] = {}
        for page in pages:
            accepted |= page["accepted"]
            refused |= page["refused"]
        return cls(accepted, refused, [(mark, said, count) for page in pages for mark, said, count in page["told"]])

    def count(self, begin: str) -> int:
        return sum(said.startswith(begin) for said in self.accepted.values())

    def holds(self, post: Post) -> None:
        """It is complete, agrees with itself, and is true of the topic."""
        print(Counter(said.split()[0] if said[0] == "d" else said for said in self.accepted.values()))
        print("refused:", Counter(self.refused.values()))
        # Each that was accepted has ended as one thing, and its callback was told that, once.
        assert self.count("delivered") + self.count("failed") == len(self.accepted)
        assert Counter({(mark, said): count for mark, said, count in self.told}) == Counter(self.accepted.items())
        assert not set(self.accepted) & set(self.refused)
        # What is said to be delivered is there, where it is said to be.
        found = {offset: payload.decode() for offset, payload in post.messages().items()}
        said = {mark: int(told.split()[-1]) for mark, told in self.accepted.items() if told.startswith("delivered")}
        assert {mark: found.get(offset) for mark, offset in said.items()} == {mark: mark for mark in said}
        # Nothing is there twice, nor what was not accepted; what failed may be, or not.
        times = Counter(found.values())
        assert {mark: count for mark, count in times.items() if count > 1} == {}
        assert set(times) <= set(self.accepted)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    kafka = Kafka(tmp_path_factory.mktemp("kafka"))
    kafka.start(patience=PATIENCE)
    try:
        yield kafka
    finally:
        kafka.stop()


@pytest.fixture
def own(shared: Kafka) -> Iterator[Kafka]:
    """A Kafka that this test may kill, or freeze."""
    yield shared
    if shared.wait(0):
        shared.start(patience=PATIENCE)
    shared.thaw()


@pytest.fixture
def post(own: Kafka, tmp_path: Path) -> Post:
    return Post(own.bootstrap, tmp_path, created(own.bootstrap))


def created(bootstrap: str) -> str:
    """A topic, as soon as the broker makes any: one that stood still is fenced for a moment when it wakes."""
    topics: list[str] = []

    def made() -> bool:
        try:
            topics.append(new_topic(bootstrap))
        except KafkaException as error:
            if error.args[0].code() != KafkaError.INVALID_REPLICATION_FACTOR:
                raise
        return bool(topics)

    until(made)
    return topics[0]


# Sends until there is a file `stop`, says meanwhile how it does, and writes its ledger.
UNTIL_STOPPED = """
book = ledger("one")
book.start()
while not Path("stop").exists():
    say(json.dumps(book.counts()))
    time.sleep(0.1)
began = time.monotonic()
left = book.sender.close({timeout})
say(json.dumps({{"took": time.monotonic() - began, "left": left, "open": sum(not one.done for one in
    list(book.accepted.values()))}}))
book.join()
Path("ledger").write_text(json.dumps([book.settle()]))
"""


class Sending:
    """A program that sends until it is stopped, as the test sees it."""

    def __init__(self, server: Server, post: Post) -> None:
        self.server, self.post = server, post

    def counts(self) -> dict[str, int]:
        """The last that it said of itself."""
        said: dict[str, int] = json.loads(self.server.heard.said[-1]) if self.server.heard.said else {}
        return said

    def until_more(self, name: str, count: int = 200, timeout: float = 30.0) -> None:
        """Wait until there are so many more messages of that name than now."""
        self.server.until(lambda: bool(self.counts()), "a count")
        before = self.counts()[name]
        self.server.until(lambda: self.counts()[name] >= before + count, f"{count} more {name}", timeout)

    def stopped(self) -> tuple[Account, dict[str, Any]]:
        """Stop it: its account, and what it said of its `close`."""
        (self.post.folder / "stop").touch()
        assert self.server.ended() == 0, str(self.server.heard)
        return Account.read(self.post.folder / "ledger"), json.loads(self.server.heard.said[-1])


@pytest.fixture
def sending(post: Post) -> Iterator[Sending]:
    with post.program(LEDGER + UNTIL_STOPPED.format(timeout=20)) as server:
        sending = Sending(server, post)
        sending.until_more("delivered")
        yield sending


def test_a_broker_that_is_killed_and_started_again(own: Kafka, post: Post, sending: Sending) -> None:
    for _ in range(2):
        own.kill()
        sending.until_more("refused", 5)
        own.start(patience=PATIENCE)
        sending.until_more("delivered")
    account, close = sending.stopped()
    account.holds(post)
    assert close["left"] == close["open"] == 0
    assert account.count("delivered") > 600


def test_a_broker_that_stands_still_and_wakes(own: Kafka, post: Post, sending: Sending) -> None:
    """For longer than a message may be on its way: those of then fail, those of later are delivered."""
    own.freeze()
    sending.until_more("failed")
    own.thaw()
    sending.until_more("delivered")
    account, close = sending.stopped()
    account.holds(post)
    assert close["left"] == close["open"] == 0
    assert account.count("failed DeliveryTimeoutError") >= 200


def test_a_broker_that_is_gone_for_good(own: Kafka, post: Post, sending: Sending) -> None:
    own.kill()
    sending.until_more("failed")
    account, close = sending.stopped()
    own.start(patience=PATIENCE)
    account.holds(post)
    assert close["open"] == 0
    assert account.count("failed DeliveryTimeoutError") >= 200


def test_a_sender_that_stands_still_and_wakes(own: Kafka, post: Post, sending: Sending) -> None:
    """For longer than a message may be on its way."""
    sending.server.signal(SIGSTOP)
    with pytest.raises(TimeoutError):
        sending.server.ended(TIMEOUT + 1)
    sending.server.signal(SIGCONT)
    sending.until_more("delivered")
    account, close = sending.stopped()
    account.holds(post)
    assert close["left"] == close["open"] == 0


# ── close, in the midst of it ────────────────────────────────────────────────────────────────────────────────────

# Producers that are closed while others send, at any moment.
CLOSED = """
books, closes = [], []
for number in range({producers}):
    book = ledger(f"book {{number}}", rows=500)
    books.append(book)
    book.post(f"book {{number}} first").wait()
    book.start(pause=0)
    time.sleep({before} * number)
    left = book.sender.close({timeout} * (number % 3))
    closes.append([left, sum(not one.done for one in list(book.accepted.values()))])
    book.join()
say("closed")
Path("ledger").write_text(json.dumps([book.settle() for book in books]))
Path("closes").write_text(json.dumps(closes))
"""


def closed(post: Post) -> Account:
    """The account of a program as above that has ended."""
    account = Account.read(post.folder / "ledger")
    closes = json.loads((post.folder / "closes").read_text())
    for number, (left, still_open) in enumerate(closes):
        assert still_open == 0
        lost = sum(
            told == "failed ProducerClosedError"
            for mark, told in account.accepted.items()
            if mark.startswith(f"book {number} ")
        )
        assert left == lost, f"close {number} said {left}, of {lost}: {closes}"
    return account


def test_a_close_in_the_midst_of_sending(own: Kafka, post: Post) -> None:
    """At once, or with time to deliver: what is accepted until then ends, what comes later is refused."""
    body = CLOSED.format(producers=15, before=0.01, timeout=5)
    with post.program(LEDGER + body) as server:
        assert server.ended() == 0, str(server.heard)
    closed(post).holds(post)


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_close_in_the_midst_of_sending_to_nobody(own: Kafka, post: Post, how: str) -> None:
    """What the broker may have had in hand has failed, whether it is on the topic or not; all is told in time."""
    with post.program(LEDGER + UNTIL_STOPPED.format(timeout=1)) as server:
        sending = Sending(server, post)
        sending.until_more("delivered")
        (own.kill if how == "killed" else own.freeze)()
        sending.until_more("refused", 5)
        account, close = sending.stopped()
    if how == "killed":
        own.start(patience=PATIENCE)
    else:
        own.thaw()
    account.holds(post)
    assert close["left"] == account.count("failed ProducerClosedError") > 0
    assert close["open"] == 0
    assert 1 <= close["took"] < 1 + 5


MANY = """
book = ledger("many", rows=50_000, **{"queue.buffering.max.messages": 100_000})
book.post("many first").wait()
book.marks = lambda name: [name]
thread = threading.Thread(target=book.sends_many, args=("in one call", 0))
thread.start()
while not book.sender.statistics().waiting:
    pass
book.sender.close(20)
thread.join()
Path("ledger").write_text(json.dumps([book.settle()]))
"""


def test_a_close_in_the_midst_of_one_call(own: Kafka, post: Post) -> None:
    """Of many that were to be sent some were: there is a handle of each."""
    with post.program(LEDGER + MANY) as server:
        assert server.ended() == 0, str(server.heard)
    account = Account.read(post.folder / "ledger")
    account.holds(post)
    assert account.count("delivered") > 1
    assert len(account.accepted) + len(account.refused) == 1 + 50_000
