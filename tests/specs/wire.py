"""A message put on the wire by hand: what Kafka takes, and Python's client would not send."""

from __future__ import annotations

import socket
import struct
import time

NONE = struct.pack(">h", -1)


def send(bootstrap: str, topic: str, value: bytes, header: tuple[bytes, bytes]) -> None:
    """Send one message with a header whose name may be any bytes to partition 0. Raises `OSError` if Kafka refuses it.

    Source: the protocol guide, Produce version 7 with a record batch of magic 2.
    """
    batch = record_batch(value, header)
    name = topic.encode()
    partition = struct.pack(">ii", 0, len(batch)) + batch
    data = struct.pack(">ih", 1, len(name)) + name + struct.pack(">i", 1) + partition
    acks, timeout, correlation = -1, 10_000, 1
    request = struct.pack(">hhi", 0, 7, correlation) + NONE + NONE + struct.pack(">hi", acks, timeout) + data
    host, _, port = bootstrap.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        with connection.makefile("rb") as answers:
            (size,) = struct.unpack(">i", answers.read(4))
            answer = answers.read(size)
    # correlation, one topic with its name, one partition: number, error code.
    (code,) = struct.unpack_from(">h", answer, 4 + 4 + 2 + len(name) + 4 + 4)
    if code:
        raise OSError(f"Kafka refused the message with code {code}")


def record_batch(value: bytes, header: tuple[bytes, bytes]) -> bytes:
    """One record without a key."""
    name, text = header
    headers = varint(1) + varint(len(name)) + name + varint(len(text)) + text
    record = b"\0" + varint(0) + varint(0) + varint(-1) + varint(len(value)) + value + headers
    now = int(time.time() * 1_000)
    body = struct.pack(">hiqqqhii", 0, 0, now, now, -1, -1, -1, 1) + varint(len(record)) + record
    rest = struct.pack(">ibI", -1, 2, crc32c(body)) + body
    return struct.pack(">qi", 0, len(rest)) + rest


def varint(number: int) -> bytes:
    """As Kafka writes lengths: zigzag, seven bits a byte."""
    left, written = (number << 1) ^ (number >> 63), bytearray()
    while left > 0x7F:
        written.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*written, left])


def crc32c(data: bytes) -> int:
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum ^= byte
        for _ in range(8):
            checksum = checksum >> 1 ^ (0x82F63B78 if checksum & 1 else 0)
    return checksum ^ 0xFFFFFFFF
