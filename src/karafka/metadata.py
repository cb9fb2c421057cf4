"""What goes beside a committed offset, for the next owner of the partition: a `Memo`, as text.

`k1:0044:9f3b2c1d:u=…;t=…`: a magic with its version, the length of what follows the third colon, its CRC-32 in hex,
then `name=value` pairs. All of it is ASCII, and at most 4,000 characters: Kafka takes 4,096 bytes. The length is there
because the client may hand back more than was stored. What cannot be read is as if nothing had been written.

| name | value |
|---|---|
| `u`, `t` | Kafka's ids of the cluster and of the topic |
| `p` | how many partitions the topic had when its group began at their ends |
| `o`, `c`, `n`, `x` | `1` while an owner is at work; ends nobody told of; the message named, and how often |
| `b` | the offset that `r` or `m` counts from |
| `r` | what is finished above: lengths of gaps and runs in turn, from `b` up |
| `m` | the same as a map: a bit for each offset from `b` up, the highest of each digit first |

The digits of `r` and `m` are `DIGITS`, six bits each. A length in `r` has five bits a digit, the lowest first, and 32
is added to all digits but the last. Of `r` and `m` the shorter one is written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log2
from zlib import crc32

MAGIC = "k1"
LIMIT = 4_000
# What `above` may take of it.
ROOM = 3_600
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
_VALUES = {digit: value for value, digit in enumerate(DIGITS)}
_HEAD = re.compile(r"k1:(\d{4}):([0-9a-f]{8}):")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memo:
    """`cluster` and `topic` are Kafka's ids, so that an offset is not taken for one of another topic of that name.

    `partitions` is how many the topic had when its group began at their ends: what is added later begins at its
    beginning. `open`, `crashes`, `named` and `times` are kept where crashes are counted: `open` while an owner is at
    work, `crashes` that ended such work in a row, and the message `named` before it was performed, `times` over.
    `above` is what is finished above the committed offset, which is `base`: lengths of gaps and runs in turn.
    """

    cluster: str = ""
    topic: str = ""
    partitions: int = 0
    open: bool = False
    crashes: int = 0
    named: int = -1
    times: int = 0
    base: int = -1
    above: tuple[int, ...] = ()

    def another_topic(self, cluster: str, topic: str) -> bool:
        """Whether this was written about another topic of the same name, on the cluster with that id."""
        return bool(self.topic and topic) and self.cluster == cluster and self.topic != topic

    def cleared(self) -> Memo:
        """Nothing crashed, and nothing is suspect."""
        return replace(self, crashes=0, named=-1, times=0)

    def at(self, offset: int, cluster: str) -> Memo:
        """As read beside `offset`: what was finished above another one, or on another cluster, says nothing here."""
        mine = self.base == offset and (not cluster or cluster == self.cluster)
        return self if mine else replace(self, base=-1, above=())


def encode(memo: Memo) -> str:
    """`memo` as text; empty where there is nothing to say. `above` must `fit`."""
    said = {"u": memo.cluster, "t": memo.topic}
    said |= {"p": str(memo.partitions)} if memo.partitions else {}
    said |= {"o": "1"} if memo.open else {}
    said |= {"c": str(memo.crashes)} if memo.crashes else {}
    said |= {"n": str(memo.named), "x": str(memo.times)} if memo.named >= 0 else {}
    if memo.above:
        name, text = _above(memo.above)
        said |= {"b": str(memo.base), name: text}
    body = ";".join(f"{name}={value}" for name, value in said.items() if value)
    return f"{MAGIC}:{len(body):04d}:{crc32(body.encode()):08x}:{body}" if body else ""


def decode(text: str | None) -> Memo | None:
    """The memo in `text`, an empty one for no text; None for what is damaged, or somebody else's."""
    if not text:
        return Memo()
    if (head := _HEAD.match(text)) is None:
        return None
    body = text[head.end() : head.end() + int(head[1])]
    if len(body) != int(head[1]) or not body.isascii() or crc32(body.encode()) != int(head[2], 16):
        return None
    said = dict(pair.partition("=")[::2] for pair in body.split(";"))
    try:
        return Memo(
            cluster=said.get("u", ""),
            topic=said.get("t", ""),
            partitions=int(said.get("p", 0)),
            open=said.get("o") == "1",
            crashes=int(said.get("c", 0)),
            named=int(said.get("n", -1)),
            times=int(said.get("x", 0)),
            base=int(said.get("b", -1)),
            above=_runs(said["r"]) if "r" in said else _mapped(said.get("m", "")),
        )
    except (ValueError, KeyError):
        return None


# ── what is finished above ───────────────────────────────────────────────────────────────────────────────────────


def sure(span: int) -> bool:
    """Whether whatever is finished within `span` offsets has room: as a map, a bit for each."""
    return span <= 6 * ROOM


def fits(ranges: int, span: int) -> bool:
    """Whether `ranges` finished ranges within `span` offsets are sure to have room, however they lie."""
    if sure(span) or not ranges:
        return True
    # The sum of their digits is largest where all are alike.
    return ranges * 2 * (1 + log2(max(1.0, span / (2 * ranges))) / 5) <= ROOM


def _above(above: Sequence[int]) -> tuple[str, str]:
    """The shorter way to write it, with its name."""
    runs = "".join(map(_digits, above))
    if sum(above) > 6 * len(runs):
        return "r", runs
    bits = "".join("01"[index % 2] * length for index, length in enumerate(above))
    bits += "0" * (-len(bits) % 6)
    return "m", "".join(DIGITS[int(bits[at : at + 6], 2)] for at in range(0, len(bits), 6))


def _digits(length: int) -> str:
    said = ""
    while length >= 32:
        said += DIGITS[32 + length % 32]
        length //= 32
    return said + DIGITS[length]


def _runs(text: str) -> tuple[int, ...]:
    found, length, scale = [], 0, 1
    for digit in text:
        value = _VALUES[digit]
        length += value % 32 * scale
        scale *= 32
        if value < 32:
            found.append(length)
            length, scale = 0, 1
    return tuple(found)


def _mapped(text: str) -> tuple[int, ...]:
    bits = "".join(f"{_VALUES[digit]:06b}" for digit in text).rstrip("0")
    return tuple(map(len, re.findall("0+|1+", bits)))
