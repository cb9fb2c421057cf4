"""Ports on the loopback address, the only one where a development broker listens."""

from __future__ import annotations

import random
import socket
import struct

HOST = "127.0.0.1"
# Below the range that systems give to outgoing connections: no client can sit on a port while its broker is down.
RANGE = range(20_000, 32_000)
NO_ERROR = bytes(2)


def taken(port: int) -> bool:
    """Whether somebody listens at `port` already. A broker that has just gone does not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def free() -> int:
    """A port where nobody listens now, chosen at random so that two who ask at once differ."""
    while taken(port := random.choice(RANGE)):  # noqa: S311 - no secret
        pass
    return port


def answers(port: int, timeout: float = 2) -> bool:
    """Whether Kafka at `port` is ready for groups, and so for everything else.

    Asks who coordinates a group, by hand: a client would wait for seconds before it asked again, and log. The question
    makes a new Kafka create its offsets topic, which the first group would otherwise wait for (3 s, measured).
    Source: Kafka's protocol, FindCoordinator version 0; the answer is size, correlation, error code, coordinator.
    """
    key = b"ready"
    request = struct.pack(">hhihh", 10, 0, 1, -1, len(key)) + key
    try:
        with socket.create_connection((HOST, port), timeout=timeout) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as answer:
                head = answer.read(10)
    except OSError:
        return False
    return len(head) == 10 and head[8:] == NO_ERROR
