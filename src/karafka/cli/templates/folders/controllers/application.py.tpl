"""What the controllers have in common."""

from typing import TypeVar

from karafka import Controller

P = TypeVar("P")


class ApplicationController(Controller[P]):
    """The base of all controllers: the place for hooks and methods that each of them needs."""
