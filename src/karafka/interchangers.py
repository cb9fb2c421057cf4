"""How params cross a job queue, which carries JSON: `encode` in the server, `decode` in the worker.

What a hook has touched goes as it was parsed, with what the hook has changed; else the payload goes as it came, and the
server never parses it.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from inspect import iscoroutinefunction
from typing import Any, ClassVar

from karafka.errors import ConfigError, InterchangeError


class Interchanger:
    """Params as they are: text of a payload that is UTF-8, JSON of what was parsed. Subclass it for another form.

    Used from several threads at once. What its methods raise is a failure of the message.
    """

    #: Whether it takes the payload as it came in any case, parsed or not.
    raw: ClassVar[bool] = False

    def encode(self, params: Any, /) -> Any:
        """What is to be carried for `params`: the payload's bytes, or what was parsed. JSON must be able to say it."""
        if not isinstance(params, bytes):
            return params
        try:
            return params.decode()
        except UnicodeDecodeError:
            raise InterchangeError(
                "its payload is no UTF-8, which JSON cannot carry: topic(…, interchanger=Binary())"
            ) from None

    def decode(self, carried: Any, /) -> Any:
        """The reverse: bytes (or text) where that was a payload."""
        return carried


class Binary(Interchanger):
    """Payloads of any bytes, as base64. What a hook changes in `params` is not carried."""

    raw = True

    def encode(self, params: Any, /) -> str:
        return b64encode(params).decode()

    def decode(self, carried: Any, /) -> bytes:
        return b64decode(carried, validate=True)


def check_interchanger(where: str, interchanger: object) -> None:
    """Raises `ConfigError` for what is none, or would have to be awaited."""
    if not isinstance(interchanger, Interchanger):
        raise ConfigError(
            f"{where}: interchanger={interchanger!r}, but an Interchanger is expected, such as Binary(): subclass it, "
            "and write encode(params) and decode(carried)"
        )
    for name in ("encode", "decode"):
        if iscoroutinefunction(getattr(interchanger, name)):
            raise ConfigError(
                f"{where}: {name} of {interchanger!r} is a coroutine function, which nobody awaits: make it a plain one"
            )
