"""What this package raises on purpose: one tree, branched by who has to act."""

from __future__ import annotations


class Error(Exception):
    """Base of everything this package raises on purpose."""


class ConfigError(Error):
    """The developer, before anything starts: a declaration or a setting cannot work.

    The text is one sentence with the thing, the value found and the way out: commands print it as it is and
    end with status 1.
    """


class StartError(Error):
    """What the app opens when it starts could not be: an `on_start` hook raised. Its cause is what that raised."""


class BrokerError(Error):
    """The cluster: `retriable` says whether waiting may help."""

    def __init__(self, reason: str, *, retriable: bool) -> None:
        super().__init__(reason)
        self.retriable = retriable


class MessageError(Error):
    """One message: what becomes of it is the route's policy."""


class CrashError(MessageError):
    """A message that was in hand each time a process died: it is buried unperformed. Never raised."""


class ParseError(MessageError):
    """A payload that its parser refused, or that is not of the controller's type. Trying again cannot help."""


# Of a group of exceptions so many are named.
NAMED = 5


def words(error: BaseException) -> str:
    """The text of an exception of somebody else's, whose `__str__` may itself raise; of a group with what is in it."""
    try:
        text = str(error)
    except Exception as raised:  # noqa: BLE001 - it is theirs
        text = f"(its text cannot be had: {type(raised).__name__})"
    if not isinstance(error, BaseExceptionGroup):
        return text
    inside = [f"{type(one).__name__}: {words(one)}".removesuffix(": ") for one in error.exceptions[:NAMED]]
    more = len(error.exceptions) - NAMED
    return f"{text}: {'; '.join(inside)}{f'; and {more} more' if more > 0 else ''}"
