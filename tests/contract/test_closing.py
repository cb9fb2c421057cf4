"""Closing a member comes to its end, whatever is on its way to it just then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.brokers import new_group
from tests.contract.member import Broker

ROOT = Path(__file__).parents[2]

# In a process of its own: a close that hangs holds the GIL. The second member is given the partition once the first one
# has gone, and does not poll until it is thrown out: both wait for it when it is closed.
PROGRAM = """
import sys, time
from tests.brokers import until
from tests.contract.member import Beside, Broker, Member, named

bootstrap, topic, group = sys.argv[1:]
real = Broker("kafka", bootstrap, {})
quick = {"max_poll_interval_ms": 3_000, "session_timeout_ms": 3_000, "heartbeat_interval_ms": 200}
settings = {**named("cooperative"), **quick}
with Beside(lambda: Member(real, topic, group=group, **settings)) as first:
    until(lambda: bool(first.owned))
    second = Member(real, topic, group=group, **settings)
    # For so long it takes part, and has nothing.
    until_then = time.monotonic() + 2.5
    while time.monotonic() < until_then:
        second.turn(0.05)
    assert not second.owned
time.sleep(6.5)
second.client.close()
print("closed")
"""


def test_a_member_that_was_given_a_partition_and_thrown_out_unseen_closes(real: Broker) -> None:
    """What it never took it cannot give up; the client would wait for that for ever."""
    command = [sys.executable, "-c", PROGRAM, real.bootstrap, real.topic(), new_group()]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "closed\n"
