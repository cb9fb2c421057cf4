"""What is sent: numbered messages, and what each does to whoever performs it, decided by a hash of seed and number."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

# Half of the poison cannot even be parsed.
GARBAGE = b'{"sequence":'


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
    """Which messages are what: shares of all, from 0 to 1; who is slow takes `long` seconds."""

    seed: int = 0
    poison: float = 0.0
    failing: float = 0.0
    slow: float = 0.0
    long: float = 0.3

    def of(self, partition: int, sequence: int) -> Numbered:
        """The same for the same seed, partition and sequence, always."""
        digest = blake2b(f"{self.seed}/{partition}/{sequence}".encode(), digest_size=8).digest()
        at = int.from_bytes(digest) / 2**64
        if at < self.poison:
            return Numbered(sequence, poison=True)
        if at < self.poison + self.slow:
            return Numbered(sequence, takes=self.long)
        if at < self.poison + self.slow + self.failing:
            return Numbered(sequence, fails=1 + digest[-1] % 2)
        return Numbered(sequence)

    def payload(self, partition: int, sequence: int) -> Numbered | bytes:
        """What is sent for it."""
        fate = self.of(partition, sequence)
        return GARBAGE if fate.poison and sequence % 2 else fate
