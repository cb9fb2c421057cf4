"""What crosses a job queue: an `Envelope`, JSON with a version; and the message that a worker takes out of it again."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any, TypeAlias

import msgspec

from karafka.errors import InterchangeError, JobError, ParseError, words
from karafka.interchangers import Interchanger
from karafka.messages import Header, Record, headers_of
from karafka.parsers import converted

# The form of what is written here. Those that are read: every one there ever was.
VERSION = 1


class Base64(msgspec.Struct, frozen=True):
    """Bytes that are no UTF-8."""

    base64: str


Said: TypeAlias = str | Base64 | None


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message on its way to a worker. `group` and `route` say whose it is, `worker` who decides how it is performed.

    `params` are the payload as text, or what was `parsed` of it, or what the route's interchanger made of either.
    """

    v: int
    group: str
    route: str
    worker: str
    topic: str
    partition: int
    offset: int
    #: Kafka's kind of timestamp, and milliseconds since 1970.
    timestamp: tuple[int, int]
    params: Any
    parsed: bool = False
    key: Said = None
    headers: tuple[tuple[str, Said], ...] = ()
    #: When it was handed over, in seconds since 1970.
    enqueued: float = 0.0

    @property
    def id(self) -> str:
        """As `Message.id`: the same each time the message is handed over."""
        return f"{self.group}/{self.topic}/{self.partition}/{self.offset}"


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Envelope).decode


class _Version(msgspec.Struct):
    v: int


_version = msgspec.json.Decoder(_Version).decode


def text_of(envelope: Envelope) -> bytes:
    """It as JSON text. Raises `InterchangeError` for params that JSON cannot say."""
    try:
        return _encode(envelope)
    except Exception as error:
        raise _unsaid(envelope, error) from error


def plain(envelope: Envelope) -> dict[str, Any]:
    """It as JSON's own objects, for queues that make the text themselves. Raises `InterchangeError`."""
    try:
        made: dict[str, Any] = msgspec.to_builtins(envelope, str_keys=True)
    except Exception as error:
        raise _unsaid(envelope, error) from error
    return made


def _unsaid(envelope: Envelope, error: Exception) -> InterchangeError:
    return InterchangeError(
        f"the params of {envelope.id} cannot cross the job queue, because JSON has no form for them "
        f"({type(error).__name__}: {words(error)}): give the route an interchanger, or leave its params alone in hooks"
    )


def read(text: bytes | None) -> Envelope:
    """The reverse of `text_of`. Raises `JobError` for what is no job, or one of a form that comes after ours."""
    return _checked(lambda: _decode(text or b""), lambda: _version(text or b"").v)


def read_plain(made: object) -> Envelope:
    """The reverse of `plain`; raises as `read` does."""
    return _checked(lambda: msgspec.convert(made, Envelope), lambda: made["v"] if isinstance(made, dict) else 0)


def _checked(read_it: Any, version_of: Any) -> Envelope:
    try:
        envelope: Envelope = read_it()
    except Exception as error:
        raise JobError(_why(version_of) or f"this is no job of karafka's: {words(error)}") from error
    if envelope.v > VERSION:
        raise JobError(_why(lambda: envelope.v))
    return envelope


def _why(version_of: Any) -> str:
    try:
        version = version_of()
    except Exception:  # noqa: BLE001 - it is of no version
        return ""
    if not isinstance(version, int) or version <= VERSION:
        return ""
    return f"this job has the form {version}, of a later karafka than this worker's, which knows {VERSION}: update it"


def packed(
    record: Record,
    params: Any,
    *,
    parsed: bool,
    interchanger: Interchanger,
    declared: bool,
    enqueued: float,
    **whose: str,
) -> Envelope:
    """The job of `record`. `params` are what was parsed of it, where it was; `declared`: whether of a declared type.

    `whose`: group, route and worker. Raises what the interchanger raises, `InterchangeError` for what would not come
    out as it went in.
    """
    raw = record.value()
    parsed = parsed and not interchanger.raw and raw is not None
    carried = None if raw is None else _encoded(record, interchanger, params if parsed else raw)
    if parsed and not declared:
        _see_faithful(record, carried)
    return Envelope(
        v=VERSION,
        topic=record.topic() or "",
        partition=record.partition() or 0,
        offset=record.offset() or 0,
        timestamp=record.timestamp(),
        params=carried,
        parsed=parsed,
        key=_said(record.key()),
        headers=tuple((name, _said(value)) for name, value in headers_of(record)),
        enqueued=enqueued,
        **whose,
    )


def _encoded(record: Record, interchanger: Interchanger, params: Any) -> Any:
    try:
        return interchanger.encode(params)
    except Exception as error:
        place = f"{record.topic()}/{record.partition()}/{record.offset()}"
        raise InterchangeError(f"{place} cannot cross the job queue: {words(error)}") from error


def _see_faithful(record: Record, carried: Any) -> None:
    """Refuse what would come out as something else: dates as text, tuples as lists, numbers as names."""
    try:
        same = msgspec.json.decode(_encode(carried)) == carried
    except Exception:  # noqa: BLE001 - told where it is written
        return
    if not same:
        place = f"{record.topic()}/{record.partition()}/{record.offset()}"
        raise InterchangeError(
            f"the params of {place} would come out of the job queue as something else, because JSON has no form for "
            "them: declare their type, Controller[…], give the route an interchanger, or leave them alone in hooks"
        )


def _said(value: bytes | None) -> Said:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return Base64(b64encode(value).decode())


def _bytes(said: Said) -> bytes | None:
    if said is None:
        return None
    return said.encode() if isinstance(said, str) else b64decode(said.base64)


def key_of(envelope: Envelope) -> bytes | None:
    """Its message's."""
    return _bytes(envelope.key)


class Parsed(bytes):
    """A payload that was parsed before: `params` are what came of it, the bytes their JSON."""

    params: Any


class Carried:
    """A `Record` out of an envelope."""

    __slots__ = ("_envelope", "_headers", "_key", "_value")

    def __init__(self, envelope: Envelope, interchanger: Interchanger) -> None:
        """Raises `ParseError` for what the interchanger cannot decode."""
        self._envelope = envelope
        self._key = key_of(envelope)
        self._headers: list[Header] = [(name, _bytes(value)) for name, value in envelope.headers]
        self._value = _value(envelope, interchanger)

    def topic(self) -> str | None:
        return self._envelope.topic

    def partition(self) -> int | None:
        return self._envelope.partition

    def offset(self) -> int | None:
        return self._envelope.offset

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> list[Header] | None:
        return self._headers

    def set_headers(self, value: list[Header], /) -> None:
        self._headers = value

    def timestamp(self) -> tuple[int, int]:
        return self._envelope.timestamp

    def __len__(self) -> int:
        return len(self._value or b"")


def _value(envelope: Envelope, interchanger: Interchanger) -> bytes | None:
    if envelope.params is None and not envelope.parsed:
        return None
    try:
        decoded = interchanger.decode(envelope.params)
    except Exception as error:
        raise ParseError(f"the params of {envelope.id} cannot be decoded: {words(error)}") from error
    if envelope.parsed:
        value = Parsed(_encode(envelope.params))
        value.params = decoded
        return value
    if isinstance(decoded, str):
        return decoded.encode()
    if not isinstance(decoded, bytes):
        raise ParseError(
            f"the params of {envelope.id} were a payload, so bytes are expected of the interchanger's decode, not "
            f"{type(decoded).__name__}"
        )
    return decoded


def unpacking(parse: Callable[..., Any], of: Any) -> Callable[..., Any]:
    """`parse`, which takes a record's value, for one that may be `Parsed` already: then it is converted to type `of`.
    A coroutine function where `parse` is one.
    """
    if iscoroutinefunction(parse):

        async def unpack_async(raw: bytes | None) -> Any:
            return converted(raw.params, of) if type(raw) is Parsed else await parse(raw)

        return unpack_async

    def unpack(raw: bytes | None) -> Any:
        return converted(raw.params, of) if type(raw) is Parsed else parse(raw)

    return unpack
