"""FastStream on confluent-kafka: a handler for each message, its payload a dict."""

from __future__ import annotations

import asyncio
from typing import Any

from faststream import FastStream
from faststream.confluent import KafkaBroker

from bench.loops.report import task
from bench.peers.tally import Tally

asked = task()
tally = Tally(asked)
broker = KafkaBroker(asked.bootstrap, logger=None)


@broker.subscriber(asked.topic, group_id=asked.group, auto_offset_reset="earliest")
async def handle(video: dict[str, Any]) -> None:
    tally.add(video["id"])


asyncio.run(FastStream(broker, logger=None).run())
