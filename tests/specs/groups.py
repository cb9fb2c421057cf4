"""A consumer group of a spec under one of Kafka's protocols, with members that soon notice who comes and goes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from karafka import App
from karafka.controllers import AnyController
from karafka.events import Assigned, ClientTroubled, CommitFailed, ErrorOccurred, Revoked
from karafka.partition import State
from tests.brokers import configure_group, new_group
from tests.specs.run import Stage, Watch, running

PROTOCOLS: Mapping[str, Mapping[str, str]] = {
    "eager": {"partition.assignment.strategy": "range"},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky"},
    "consumer": {"group.protocol": "consumer"},
}
# Milliseconds between two heartbeats: how late a member may hear that others came or went. By default 3,000; 5,000
# under the `consumer` protocol, where it is the broker's to say.
HEARTBEAT = 200


class Group:
    """Makes members: apps of one group that read `topic`."""

    def __init__(self, stage: Stage, protocol: str, *, heartbeat: int = HEARTBEAT, session: int = 10_000) -> None:
        self.stage, self.protocol = stage, protocol
        self.name = new_group()
        self._kafka: dict[str, str | int] = {**PROTOCOLS[protocol]}
        if protocol == "consumer":
            own = {"consumer.heartbeat.interval.ms": heartbeat, "consumer.session.timeout.ms": session}
            configure_group(stage.bootstrap, self.name, own)
        else:
            self._kafka |= {"heartbeat.interval.ms": heartbeat, "session.timeout.ms": session}

    def app(
        self,
        topic: str,
        controller: type[AnyController],
        *,
        kafka: Mapping[str, str | int] | None = None,
        **settings: Any,
    ) -> App:
        """A member that is yet to run; `kafka` beside the protocol's settings."""
        made = self.stage.app(client_id=self.name, kafka={**self._kafka, **(kafka or {})}, **settings)
        made.topic(topic)(controller)
        return made

    def running(
        self, app: App, *, allow: tuple[type[ErrorOccurred], ...] = (), status: int = 0
    ) -> AbstractContextManager[Watch]:
        """Run a member. Where a new partition begins may be asked before its leader knows, which is told.

        A commit that meets a rebalance may be refused: the next one carries it.
        """
        refusing = () if self.protocol == "eager" else (CommitFailed,)
        return running(app, allow=(*allow, *refusing, ClientTroubled), status=status)


def owned(member: Watch) -> set[int]:
    """The partitions that a member has now."""
    found: set[int] = set()
    for event in member.events.copy():
        if isinstance(event, Assigned):
            found |= {partition for _, partition in event.starts}
        elif isinstance(event, Revoked):
            found -= {partition for _, partition in event.positions}
    return found


def leaving(member: Watch) -> set[int]:
    """The partitions that a member is giving up, waiting for what runs."""
    listeners = member.server._listeners
    return {
        place.partition
        for listener in listeners
        for place, partition in listener._partitions.copy().items()
        if partition.state is State.LEAVING
    }
