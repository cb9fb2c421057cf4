"""What the client says of a delivery, and what it means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from karafka.confluent import ConfluentSender


class Unsure:
    """librdkafka's producer; it calls a message delivered that has no offset: the broker took it for a repetition."""

    def __init__(self) -> None:
        self.told: list[Callable[..., object]] = []

    def produce(self, topic: str, value: bytes | None, key: bytes | None, **options: Any) -> None:
        self.told.append(options["on_delivery"])

    def partition(self) -> int:
        return 0

    def offset(self) -> None:
        return None


@pytest.mark.parametrize(("acks", "confirmed"), [("all", False), ("1", False), ("0", True)])
def test_a_delivery_without_an_offset_is_no_confirmation(acks: str, confirmed: bool) -> None:  # noqa: FBT001
    """The idempotent producer says so of messages that are nowhere; without acknowledgements there are no offsets."""
    sender = ConfluentSender({"bootstrap.servers": "", "acks": acks, "log_level": 0})
    client: Any = Unsure()
    sender._client = client
    reports: list[str | None] = []
    sender.send("orders", b"", None, [], None, None, lambda error, _partition, _offset: reports.append(error))
    client.told[0](None, client)

    (report,) = reports
    assert (report is None) == confirmed
