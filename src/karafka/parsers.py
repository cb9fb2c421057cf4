"""Bytes to objects and back. JSON is the default; text and raw bytes are built in; yours need two methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Annotated, Any, Protocol, get_args, get_origin, is_typeddict

import msgspec

from karafka.errors import ConfigError, ParseError


class Parser(Protocol):
    """Both ways. Used from several threads at once. Whatever `parse` raises is a `ParseError` to the engine.

    `parse` may be `async def` where `perform` is: it is awaited before the hooks and `perform`, touched or not.
    """

    def parse(self, raw: bytes, /) -> Any: ...

    def generate(self, payload: Any, /) -> bytes: ...


def check_parser(where: str, parser: object) -> None:
    """Raises `ConfigError` for what is no parser, or would generate what must be awaited: sending does not wait."""
    if not (hasattr(parser, "parse") and hasattr(parser, "generate")):
        raise ConfigError(f"{where}: {parser!r} is no parser: it needs parse(bytes) and generate(object)")
    if iscoroutinefunction(parser.generate):
        raise ConfigError(
            f"{where}: generate of {parser!r} is a coroutine function, which sending does not wait for: let it be a "
            "plain one, and await what it needs before you send; parse may be async def"
        )


class JSON:
    """JSON by msgspec: `JSON()` gives what JSON gives, `JSON(Video)` a checked `Video`.

    `of` is a dataclass, msgspec Struct, TypedDict, or any type msgspec knows. Numbers beyond 64 bits stay exact
    ints where the type is undeclared, and are refused by an `int` field only if it is constrained.
    """

    def __init__(self, of: Any = Any) -> None:
        self.parse: Callable[[bytes], Any] = msgspec.json.Decoder(of).decode
        self.generate: Callable[[Any], bytes] = msgspec.json.Encoder().encode


class Text:
    """Text, UTF-8 unless told otherwise."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self._encoding = encoding

    def parse(self, raw: bytes, /) -> str:
        return raw.decode(self._encoding)

    def generate(self, payload: str, /) -> bytes:
        return payload.encode(self._encoding)


class Raw:
    """The bytes as they are."""

    def parse(self, raw: bytes, /) -> bytes:
        return raw

    def generate(self, payload: bytes, /) -> bytes:
        return payload


@dataclass(frozen=True, slots=True)
class Payloads:
    """How a route reads its payloads.

    `parse` takes a record's value, tombstones included; a coroutine function where the route's parser is one.
    `decode` is JSON's own, in C: it gives the same, or raises; what it refuses (a tombstone, say) is asked of `parse`
    again. None where the route has a parser of its own, which might make something of a tombstone, or raise what an
    iterator would take for its end.
    """

    parse: Callable[[bytes | None], Any]
    decode: Callable[[Any], Any] | None


def payloads(parser: Parser | None, of: Any) -> Payloads:
    """How payloads of type `of` are read.

    Without a parser of the route's own it is JSON, checked against `of` while it decodes. With one, what it gives
    is converted to `of` where it is not yet that. None (a tombstone) stays None where `of` admits it or is
    undeclared, and is refused in words otherwise.
    `parse` raises whatever the parser raises; msgspec's errors for what is not of the type.
    """
    meant = get_args(of)[0] if get_origin(of) is Annotated else of
    nullable = meant is Any or meant is None or type(None) in get_args(meant)

    def tombstone() -> None:
        if not nullable:
            name = getattr(of, "__name__", of)
            raise ParseError(f"the payload is null (a tombstone), but the controller takes {name}: use {name} | None")

    if parser is not None and iscoroutinefunction(own := parser.parse):

        async def parse_async(raw: bytes | None) -> Any:
            return tombstone() if raw is None else converted(await own(raw), of)

        return Payloads(parse_async, None)
    decode = JSON(of).parse if parser is None else _converting(parser.parse, of)

    def parse(raw: bytes | None) -> Any:
        return tombstone() if raw is None else decode(raw)

    return Payloads(parse, decode if parser is None else None)


def _converting(parse: Callable[[bytes], Any], of: Any) -> Callable[[bytes], Any]:
    return parse if of is Any else lambda raw: converted(parse(raw), of)


def converted(payload: Any, of: Any, *, text_keys: bool = False) -> Any:
    """`payload` as type `of`, which it may be already; `text_keys`: its dicts have keys as JSON has them, text alone.

    Raises `msgspec.ValidationError`.
    """
    if of is Any or (isinstance(of, type) and not is_typeddict(of) and isinstance(payload, of)):
        return payload
    return msgspec.convert(payload, of, str_keys=text_keys)
