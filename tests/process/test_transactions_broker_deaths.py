"""Transactions while the broker dies and comes back: each is seen whole or not at all, as its sender was told."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from time import monotonic

import pytest

from karafka.devbroker import Kafka
from tests.brokers import new_topic
from tests.process.exactly import all_ended
from tests.process.senders import Post
from tests.process.servers import Server
from tests.specs import visible

# How long Kafka may take to start on a machine that is busy.
PATIENCE = 120.0
# How long a transaction may take to begin and to end; how many messages it has, over two partitions.
TIMEOUT, SIZE = 2.0, 10

# Two threads take turns with one producer, two tasks with another; some are aborted on purpose. `book` has what each
# was told of its transactions. None ends while there is a file `hold`.
PROGRAM = f"""
import json

deadline(150)
book, held, hold, stop = {{}}, [], Path("hold"), Path("stop")

def ended(mark, error=None):
    if error is None:
        book[mark] = "aborted" if mark.endswith("7") else "committed"
    elif isinstance(error, TransactionError):
        book[mark] = "unknown" if error.unknown else "failed" if error.retriable else f"failed for good: {{error}}"
    else:
        book[mark] = "failed"

def sends(transaction, mark):
    for part in range({SIZE}):
        transaction.produce_async(TOPIC, f"{{mark}} {{part}}", partition=part % 2)
    held.append(mark)

def ends(transaction, mark):
    held.remove(mark)
    if mark.endswith("7"):
        transaction.abort()

def works(name):
    number = 0
    while not stop.exists():
        number += 1
        mark = f"{{name}} {{number}}"
        try:
            with shared.transaction({TIMEOUT}) as transaction:
                sends(transaction, mark)
                while hold.exists():
                    time.sleep(0.01)
                ends(transaction, mark)
            ended(mark)
        except (TransactionError, DeliveryError) as error:
            ended(mark, error)

async def works_on_a_loop(name):
    number = 0
    while not stop.exists():
        number += 1
        mark = f"{{name}} {{number}}"
        try:
            async with looped.transaction({TIMEOUT}) as transaction:
                sends(transaction, mark)
                while hold.exists():
                    await asyncio.sleep(0.01)
                ends(transaction, mark)
            ended(mark)
        except (TransactionError, DeliveryError) as error:
            ended(mark, error)

async def both():
    await asyncio.gather(works_on_a_loop("first task"), works_on_a_loop("second task"))

shared, looped = (producer(transactional_id=f"{{TOPIC}}-{{name}}") for name in ("shared", "looped"))
threads = [threading.Thread(target=works, args=(name,)) for name in ("first thread", "second thread")]
threads.append(threading.Thread(target=asyncio.run, args=(both(),)))
for thread in threads:
    thread.start()
while any(thread.is_alive() for thread in threads):
    counts = {{"held": len(held)}} if hold.exists() else {{}}
    for told in list(book.values()):
        counts[told] = counts.get(told, 0) + 1
    say(json.dumps(counts))
    time.sleep(0.1)
# Whatever is still open is brought to its end.
for sender in shared, looped:
    with sender.transaction(20):
        pass
    sender.close(5)
Path("book").write_text(json.dumps(book))
"""


class Sending:
    """The program as the test sees it."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def count(self, *kinds: str) -> int:
        """How many transactions have ended so, as it has said last."""
        said: dict[str, int] = json.loads(self._server.heard.said[-1]) if self._server.heard.said else {}
        return sum(said.get(kind, 0) for kind in kinds)

    def until_more(self, count: int, *kinds: str) -> None:
        before = self.count(*kinds)
        self._server.until(lambda: self.count(*kinds) >= before + count, f"{count} more {kinds}")


def holds(book: dict[str, str], seen: list[str]) -> None:
    """What is seen is what was told: whole transactions, once, in their order."""
    parts: defaultdict[str, list[int]] = defaultdict(list)
    orders: defaultdict[str, list[int]] = defaultdict(list)
    for one in seen:
        mark, _, part = one.rpartition(" ")
        parts[mark].append(int(part))
    assert {mark: sorted(found) for mark, found in parts.items() if sorted(found) != list(range(SIZE))} == {}
    must = {mark for mark, told in book.items() if told == "committed"}
    may = must | {mark for mark, told in book.items() if told == "unknown"}
    assert must <= set(parts) <= may, f"missing: {must - set(parts)}, not to be seen: {set(parts) - may}"
    for one in seen:
        mark, _, part = one.rpartition(" ")
        name, _, number = mark.rpartition(" ")
        orders[f"{name}, {int(part) % 2}"].append(int(number))
    assert {name: numbers for name, numbers in orders.items() if numbers != sorted(numbers)} == {}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["killed", "stopped", "frozen"])
def test_the_broker_away_and_back(tmp_path: Path, how: str) -> None:
    """What was committed is whole, what failed is nowhere, what nobody knew of is one of both; and it goes on.

    What becomes of a transaction whose end Kafka itself has not written is out of our hands: then it is begun anew.
    """
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        kafka = Kafka(folder / "kafka")
        kafka.start(patience=PATIENCE)
        try:
            if away_and_back(kafka, folder, how):
                return
        finally:
            if not kafka.wait(0):
                kafka.thaw()
            kafka.stop()
        print("Kafka has not written the end of a transaction: begun anew")
    pytest.fail("Kafka never wrote all ends of transactions")


def away_and_back(own: Kafka, folder: Path, how: str) -> bool:
    """Twice. Whether it could be seen: Kafka has written all ends."""
    post = Post(own.bootstrap, folder, new_topic(own.bootstrap, 2))
    began = monotonic()
    with post.program(PROGRAM) as server:
        sending = Sending(server)
        for _ in range(2):
            sending.until_more(40, "committed")
            # Of what is just then being ended Kafka itself does not write the end, more often than not (KAFKA-20734).
            (folder / "hold").touch()
            server.until(lambda: sending.count("held") == 2, "both producers with a transaction open")
            {"killed": own.kill, "stopped": own.stop, "frozen": own.freeze}[how]()
            (folder / "hold").unlink()
            sending.until_more(3, "failed", "unknown")
            if how == "frozen":
                own.thaw()
            else:
                own.start(patience=PATIENCE)
            sending.until_more(40, "committed")
        (folder / "stop").touch()
        assert server.ended() == 0, str(server.heard)
    if not all_ended(own):
        return False
    book: dict[str, str] = json.loads((folder / "book").read_text())
    print(f"{how}: {Counter(book.values())} in {monotonic() - began:.0f} s")
    assert set(book.values()) <= {"committed", "aborted", "failed", "unknown"}
    assert visible.decided(own.bootstrap, post.topic, 2) < 5
    holds(book, visible.seen(own.bootstrap, post.topic, 2))
    return True
