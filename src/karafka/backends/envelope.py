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
# What was parsed to one of these no hook can have changed: the payload goes as it came.
UNCHANGING = frozenset({bytes, str, int, float, bool, type(None)})


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
    """It as JSON text."""
    return _encode(envelope)


def plain(envelope: Envelope) -> dict[str, Any]:
    """It as JSON's own objects, for queues that make the text themselves."""
    made: dict[str, Any] = msgspec.to_builtins(envelope, str_keys=True)
    return made


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
    of: Any,
    interchanger: Interchanger,
    enqueued: float,
    **whose: str,
) -> Envelope:
    """The job of `record`. `params` are what was `parsed` of it, where it was, of the declared type `of`.

    `whose`: group, route and worker. Raises `InterchangeError` for what would not come out as it went in.
    """
    raw = record.value()
    parsed = parsed and raw is not None and not interchanger.raw and type(params) not in UNCHANGING
    return Envelope(
        v=VERSION,
        topic=record.topic() or "",
        partition=record.partition() or 0,
        offset=record.offset() or 0,
        timestamp=record.timestamp(),
        params=_of_parsed(record, params, of, interchanger) if parsed else _of_raw(record, raw, interchanger),
        parsed=parsed,
        key=_said(record.key()),
        headers=tuple((name, _said(value)) for name, value in headers_of(record)),
        enqueued=enqueued,
        **whose,
    )


def _of_raw(record: Record, raw: bytes | None, interchanger: Interchanger) -> Any:
    """What is carried for a payload as it came."""
    if raw is None:
        return None
    carried = _encoded(record, interchanger, raw)
    if type(interchanger) is not Interchanger and (carried is None or not _same(_across(record, carried), carried)):
        raise InterchangeError(
            f"{_place(record)} would come out of the job queue as something else: what "
            f"{type(interchanger).__qualname__}.encode gave of it, {type(carried).__name__}, is nothing that JSON has "
            "a form for: text is, and numbers, lists, dicts with text for keys; let the interchanger make it that"
        )
    return carried


def _of_parsed(record: Record, params: Any, of: Any, interchanger: Interchanger) -> Any:
    """What is carried for what was parsed: dates as text, tuples as lists, numbers as names are another thing when they
    come out, unless their type is declared.
    """
    carried = _encoded(record, interchanger, params)
    text = _across(record, carried)
    try:
        faithful = _same(restored(interchanger.decode(text), of), params)
    except Exception as error:
        raise _unfaithful(record, f" ({type(error).__name__}: {words(error)})") from error
    if not faithful:
        raise _unfaithful(record)
    return carried


def _unfaithful(record: Record, why: str = "") -> InterchangeError:
    return InterchangeError(
        f"the params of {_place(record)} would come out of the job queue as something else, because JSON has no "
        f"form for them{why}: declare their type, Controller[…], give the route an interchanger, or leave them alone "
        "in hooks"
    )


def _encoded(record: Record, interchanger: Interchanger, params: Any) -> Any:
    try:
        return interchanger.encode(params)
    except Exception as error:
        raise InterchangeError(f"{_place(record)} cannot cross the job queue: {words(error)}") from error


def _across(record: Record, carried: Any) -> Any:
    """`carried` as it comes out."""
    try:
        return msgspec.json.decode(_encode(carried))
    except Exception as error:
        raise InterchangeError(
            f"the params of {_place(record)} cannot cross the job queue, because JSON has no form for them "
            f"({type(error).__name__}: {words(error)}): give the route an interchanger, or leave them alone in hooks"
        ) from error


def _same(came: Any, went: Any) -> bool:
    """Whether it is equal; for what is equal to nothing but itself: whether JSON says the same of it."""
    kind: Any = type(went)
    if kind.__eq__ is object.__eq__ and type(came) is kind:
        return _encode(came) == _encode(went)
    return bool(came == went)


def restored(params: Any, of: Any) -> Any:
    """What came out, as type `of`. Raises `msgspec.ValidationError`."""
    return converted(params, of, text_keys=True)


def _place(record: Record) -> str:
    return f"{record.topic()}/{record.partition()}/{record.offset()}"


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
    return said.encode() if isinstance(said, str) else b64decode(said.base64, validate=True)


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
        """Raises `ParseError` for what the interchanger cannot decode, and for bytes that are none."""
        self._envelope = envelope
        try:
            self._key = key_of(envelope)
            self._headers: list[Header] = [(name, _bytes(value)) for name, value in envelope.headers]
        except ValueError as error:
            raise ParseError(f"key and headers of {envelope.id} cannot be decoded: {words(error)}") from error
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
            return restored(raw.params, of) if type(raw) is Parsed else await parse(raw)

        return unpack_async

    def unpack(raw: bytes | None) -> Any:
        return restored(raw.params, of) if type(raw) is Parsed else parse(raw)

    return unpack
