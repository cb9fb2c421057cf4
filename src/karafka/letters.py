"""A message that is to be sent: checked, its payload made bytes, before anything leaves. Any thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any, NotRequired, TypeAlias, TypedDict

import msgspec

from karafka.checks import check_topic
from karafka.errors import ConfigError, InvalidMessageError, words
from karafka.messages import Header
from karafka.parsers import JSON, Parser, check_parser

Headers: TypeAlias = Mapping[str, str | bytes | None] | Iterable[tuple[str, str | bytes | None]]
Key: TypeAlias = str | bytes | None
Moment: TypeAlias = float | datetime | None

# Kafka's own bounds: partitions are numbered in 32 bits, milliseconds in 64.
MOST_PARTITIONS = 2**31 - 1
LAST = 2**62 / 1_000
# A part of a payload that is refused is looked for so deep.
DEEP = 20


class Row(TypedDict):
    """A message as `produce_many_*` take it: the arguments of `produce_async`, by name."""

    topic: str
    payload: Any
    key: NotRequired[Key]
    headers: NotRequired[Headers | None]
    partition: NotRequired[int | None]
    timestamp: NotRequired[Moment]
    label: NotRequired[Any]


# Payloads of exactly these types are never sent as they are.
WRITTEN = frozenset({dict, list})


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message on its way through `before_send`, as it was given; change it by `dataclasses.replace`."""

    topic: str
    payload: Any
    key: Key = None
    headers: Headers | None = None
    partition: int | None = None
    timestamp: Moment = None
    #: Whatever the sender wants to find again on the handle and in events. It is not sent.
    label: Any = None

    @property
    def fields(self) -> tuple[str, Any, Key, Headers | None, int | None, Moment, Any]:
        return self.topic, self.payload, self.key, self.headers, self.partition, self.timestamp, self.label


class Letter(msgspec.Struct, frozen=True, gc=False):
    """A message as the client takes it: partition -1 for the key's, timestamp in milliseconds, 0 for now."""

    topic: str
    value: bytes | str | None
    key: Key
    headers: list[Header] | None
    partition: int = -1
    timestamp: int = 0
    label: Any = None

    @property
    def size(self) -> int:
        """Bytes of payload, key and headers."""
        said = sum(len(name.encode()) + len(value or b"") for name, value in self.headers or ())
        return _bytes(self.value) + _bytes(self.key) + said


def _bytes(text: bytes | str | None) -> int:
    return len(text.encode(errors="surrogatepass")) if isinstance(text, str) else len(text or b"")


class Writers(dict[str, Callable[[Any], bytes]]):
    """What makes bytes of a topic's payloads, by topic: one that is looked up here is a topic that Kafka takes."""

    def __init__(self, parser: Parser | None, parsers: Mapping[str, Parser] | None) -> None:
        """Raises `ConfigError` for what is no parser, or no topic."""
        super().__init__()
        if parser is not None:
            check_parser("Producer(parser=…)", parser)
        self._generate = (parser or JSON()).generate
        for topic, own in (parsers or {}).items():
            check_parser(f"Producer(parsers={{{topic!r}: …}})", own)
            self[check_topic(topic, "Producer(parsers=…)")] = own.generate

    def of(self, topic: Any) -> Callable[[Any], bytes]:
        """The same for what may not even be a key."""
        try:
            return self[topic]
        except TypeError:
            return self.__missing__(topic)

    def __missing__(self, topic: object) -> Callable[[Any], bytes]:
        try:
            name = check_topic(topic, "produce")
        except ConfigError as error:
            raise InvalidMessageError(str(error), topic=str(topic)) from None
        self[name] = self._generate
        return self._generate


def written(generate: Callable[[Any], bytes], topic: str, key: Key, payload: Any) -> bytes | str | None:
    """What is sent as `payload`: None, bytes and text as they are, all else by `generate`.

    Raises `InvalidMessageError`, saying where in the payload, if that can be told.
    """
    if payload.__class__ not in WRITTEN:  # which is sooner asked than what follows
        if payload is None or isinstance(payload, bytes | str):
            return payload
        if isinstance(payload, bytearray | memoryview):
            return bytes(payload)
    try:
        value = generate(payload)
    except Exception as error:
        found = _culprit(generate, payload)
        where = f", at {found}" if found else ""
        raise InvalidMessageError(
            f"a payload for {topic!r}{_with(key)} cannot be written{where}: {type(error).__name__}: {words(error)}",
            topic=topic,
            key=key,
        ) from error
    if not isinstance(value, bytes):
        raise InvalidMessageError(
            f"a payload for {topic!r}{_with(key)}: its parser generated {type(value).__name__}, not bytes",
            topic=topic,
            key=key,
        )
    return value


def check_key(topic: str, key: object) -> None:
    """Refuse a key that is neither text nor bytes. Raises `InvalidMessageError`."""
    if key is not None and not isinstance(key, str | bytes):
        raise InvalidMessageError(
            f"a message to {topic!r} has the key {key!r}, of type {type(key).__name__}: text or bytes are expected, "
            f"such as key=str({key!r})",
            topic=topic,
        )


def check_tombstone(topic: str, key: object) -> None:
    """Refuse a tombstone without a key. Raises `InvalidMessageError`."""
    if not key:
        raise InvalidMessageError(f"a tombstone for {topic!r} without a key deletes nothing", topic=topic)


def checked_headers(topic: str, key: Key, headers: Headers) -> list[Header]:
    """`headers` as pairs, text as UTF-8. Raises `InvalidMessageError`."""
    made: list[Header] = []
    try:
        for name, value in headers.items() if isinstance(headers, Mapping) else headers:
            if not isinstance(name, str) or not _writable(name):
                raise _header_refused(topic, key, f"a header is named {name!r}: names are text, in UTF-8, without NUL")
            if value is not None and not isinstance(value, str | bytes):
                raise _header_refused(topic, key, f"the header {name!r} is {value!r}: text, bytes or None are expected")
            made.append((name, value.encode() if isinstance(value, str) else value))
    except (TypeError, ValueError) as error:
        raise _header_refused(topic, key, f"headers are a mapping or pairs of name and value ({error})") from error
    return made


def _writable(name: str) -> bool:
    """Whether it can be a header's name: the client reads it up to the first NUL."""
    try:
        return b"\0" not in name.encode()
    except UnicodeEncodeError:
        return False


def _header_refused(topic: str, key: Key, said: str) -> InvalidMessageError:
    return InvalidMessageError(f"a message to {topic!r}{_with(key)}: {said}", topic=topic, key=key)


def checked_partition(topic: str, partition: object) -> int:
    """The client's number for `partition`. Raises `InvalidMessageError`."""
    if isinstance(partition, bool) or not isinstance(partition, int) or not 0 <= partition <= MOST_PARTITIONS:
        raise InvalidMessageError(
            f"a message to {topic!r} names partition {partition!r}: a whole number from 0 is expected, or None for "
            "the one of its key",
            topic=topic,
        )
    return partition


def milliseconds(topic: str, moment: float | datetime) -> int:
    """A time since 1970 as the client takes it. Raises `InvalidMessageError`."""
    if isinstance(moment, datetime) and moment.tzinfo is not None:
        moment = moment.timestamp()
    if isinstance(moment, bool) or not isinstance(moment, int | float) or not 0 < moment <= LAST:
        raise InvalidMessageError(
            f"a message to {topic!r} has the timestamp {moment!r}: seconds since 1970, or a datetime with a zone, are "
            "expected",
            topic=topic,
        )
    return round(moment * 1_000)


def _with(key: Key) -> str:
    return f" with key {key!r}" if key is not None else ""


def described(letter: Letter) -> str:
    """The message in words, for errors."""
    return f"a message to {letter.topic!r}{_with(letter.key)}"


# ── where in a payload ───────────────────────────────────────────────────────────────────────────────────────────


def _culprit(generate: Callable[[Any], bytes], payload: Any) -> str:
    """The way to the smallest part of `payload` that is refused by itself, such as `$.user.tags[2]`; else nothing."""
    way, part = "$", payload
    for _ in range(DEEP):
        refused = next(((name, one) for name, one in _parts(part) if not _writes(generate, one)), None)
        if refused is None:
            break
        way, part = way + refused[0], refused[1]
    return f"{way} ({type(part).__name__})" if part is not payload else ""


def _parts(whole: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(whole, Mapping):
        return [(f".{name}" if isinstance(name, str) else f"[{name!r}]", one) for name, one in whole.items()]
    if isinstance(whole, list | tuple | set | frozenset):
        return [(f"[{at}]", one) for at, one in enumerate(whole)]
    if is_dataclass(whole) and not isinstance(whole, type):
        return [(f".{one.name}", getattr(whole, one.name, None)) for one in fields(whole)]
    # msgspec's, told by what they have.
    return [(f".{name}", getattr(whole, name, None)) for name in getattr(whole, "__struct_fields__", ())]


def _writes(generate: Callable[[Any], bytes], part: Any) -> bool:
    try:
        generate(part)
    except Exception:  # noqa: BLE001 - whatever it raises, it is refused
        return False
    return True
