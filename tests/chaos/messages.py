"""What is sent: numbered messages, and what each does to whoever performs it, decided by a hash of seed and number."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, TypeAlias, get_args

# Half of the poison cannot even be parsed.
GARBAGE = b'{"sequence":'

# What is in order: all of a partition; what has the same key; nothing.
Order: TypeAlias = Literal["partition", "key", "none"]
ORDERS = get_args(Order)
# Of a partition. The first ones come more often: of 40, the first in one of six messages.
KEYS = 40


@dataclass(frozen=True, slots=True)
class Numbered:
    """The payload: the `sequence`-th message of its partition, from 0.

    To perform it takes `takes` seconds; the first `fails` tries fail, and all of them if it is `poison`.
    """

    sequence: int
    takes: float = 0.0
    fails: int = 0
    poison: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fates:
    """Which messages are what: shares of all, from 0 to 1; who is slow takes `long` seconds, the others up to
    `usual`. What is in order goes by `order`.
    """

    seed: int = 0
    order: Order = "partition"
    usual: float = 0.0
    poison: float = 0.0
    failing: float = 0.0
    slow: float = 0.0
    long: float = 0.3

    def of(self, partition: int, sequence: int) -> Numbered:
        """The same for the same seed, partition and sequence, always."""
        digest = self._digest(partition, sequence)
        at = int.from_bytes(digest) / 2**64
        if at < self.poison:
            return Numbered(sequence, poison=True)
        if at < self.poison + self.slow:
            return Numbered(sequence, takes=self.long)
        if at < self.poison + self.slow + self.failing:
            return Numbered(sequence, fails=1 + digest[-1] % 2)
        return Numbered(sequence, takes=self.usual * digest[-2] / 255)

    def payload(self, partition: int, sequence: int) -> Numbered | bytes:
        """What is sent for it."""
        fate = self.of(partition, sequence)
        return GARBAGE if fate.poison and sequence % 2 else fate

    def lane(self, partition: int, sequence: int) -> int:
        """Messages of the same lane are in order."""
        match self.order:
            case "partition":
                return 0
            case "none":
                return sequence
            case "key":
                at = int.from_bytes(self._digest(partition, sequence)[2:6]) / 2**32
                return int(KEYS * at * at)

    def key(self, partition: int, sequence: int) -> bytes | None:
        """By which it is sent."""
        return b"key-%d" % self.lane(partition, sequence) if self.order == "key" else None

    def _digest(self, partition: int, sequence: int) -> bytes:
        return blake2b(f"{self.seed}/{partition}/{sequence}".encode(), digest_size=8).digest()
