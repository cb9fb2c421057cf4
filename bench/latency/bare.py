"""The client alone, one run in a process of its own, asked and answered as `member` is.

`poll` is the loop of the client's examples, `poll-ours` the same with what karafka sets for fetching, and `consume` the
loop that is tuned for throughput, as `bench.loops.consume` has it.
"""

from __future__ import annotations

import json
from time import monotonic, time_ns

import msgspec
from confluent_kafka import Consumer, Message

from bench.latency.stamps import Account, Stamp, task

SETTINGS: dict[str, dict[str, int]] = {
    "poll": {},
    "poll-ours": {"fetch.wait.max.ms": 50, "fetch.queue.backoff.ms": 10},
    "consume": {"fetch.queue.backoff.ms": 10},
}


def main() -> None:
    asked = task()
    client = {"bootstrap.servers": asked.bootstrap, "group.id": asked.group, "auto.offset.reset": "earliest"}
    consumer, account = Consumer({**client, **SETTINGS[asked.kind]}), Account(asked)
    consumer.subscribe([asked.topic])
    read = by_batches if asked.kind == "consume" else by_messages
    read(consumer, account, monotonic() + asked.timeout)
    consumer.close()
    print(json.dumps(account.verdict()))


def by_messages(consumer: Consumer, account: Account, until: float) -> None:
    decode = msgspec.json.Decoder(Stamp).decode
    while not account.done.is_set() and monotonic() < until:
        message = consumer.poll(1.0)
        at = time_ns()
        if message is not None:
            account.note(decode(value_of(message)), at)


def by_batches(consumer: Consumer, account: Account, until: float) -> None:
    decode = msgspec.json.Decoder(Stamp).decode
    while not account.done.is_set() and monotonic() < until:
        messages = consumer.consume(500, 0.2)
        at = time_ns()
        for message in messages:
            account.note(decode(value_of(message)), at)


def value_of(message: Message) -> bytes:
    value = message.value()
    if value is None or message.error():
        raise SystemExit(f"no message: {message.error()}")
    return value


main()
