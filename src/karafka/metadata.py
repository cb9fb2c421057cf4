"""What goes beside a committed offset, for the next owner of the partition: a `Memo`, as text.

`k1:0044:9f3b2c1d:u=…;t=…`: a magic with its version, the length of what follows the third colon, its CRC-32 in hex,
then `name=value` pairs. All of it is ASCII, and at most 4,000 characters: Kafka takes 4,096 bytes. The length is there
because the client may hand back more than was stored. What cannot be read is as if nothing had been written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from zlib import crc32

MAGIC = "k1"
LIMIT = 4_000
_HEAD = re.compile(r"k1:(\d{4}):([0-9a-f]{8}):")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memo:
    """`cluster` and `topic` are Kafka's ids, so that an offset is not taken for one of another topic of that name.

    `partitions` is how many the topic had when its group began at their ends: what is added later begins at its
    beginning. The rest is kept where crashes are counted: `open` while an owner is at work, `crashes` that ended such
    work in a row, and the message `named` before it was performed, `times` over.
    """

    cluster: str = ""
    topic: str = ""
    partitions: int = 0
    open: bool = False
    crashes: int = 0
    named: int = -1
    times: int = 0

    def another_topic(self, cluster: str, topic: str) -> bool:
        """Whether this was written about another topic of the same name, on the cluster with that id."""
        return bool(self.topic and topic) and self.cluster == cluster and self.topic != topic

    def cleared(self) -> Memo:
        """Nothing crashed, and nothing is suspect."""
        return replace(self, crashes=0, named=-1, times=0)


def encode(memo: Memo) -> str:
    """`memo` as text; empty where there is nothing to say."""
    said = {"u": memo.cluster, "t": memo.topic}
    said |= {"p": str(memo.partitions)} if memo.partitions else {}
    said |= {"o": "1"} if memo.open else {}
    said |= {"c": str(memo.crashes)} if memo.crashes else {}
    said |= {"n": str(memo.named), "x": str(memo.times)} if memo.named >= 0 else {}
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
        )
    except ValueError:
        return None
