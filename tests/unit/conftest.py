"""What unit tests may ask for: a house of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from tests.unit.house import House
from tests.unit.notary import Register, on_paper
from tests.unit.post import Passing

Build: TypeAlias = Callable[..., House]


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Build:
    """Makes a `House` with options of the test's own, its topic's first two partitions assigned to it."""

    def made(*, partitions: tuple[int, ...] = (0, 1), **options: Any) -> House:
        house = House(monkeypatch, **options)
        for topic in house.topics:
            house.assign(topic, *partitions)
        return house

    return made


@pytest.fixture
def house(build: Build) -> House:
    """Reads `orders`, partitions 0 and 1, with the policy that a route has by default."""
    return build()


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> tuple[Passing, Register]:
    """Time that is moved by hand, and what the brokers know of a `transactional.id`."""
    return on_paper(monkeypatch)


@pytest.fixture
def passing(paper: tuple[Passing, Register]) -> Passing:
    return paper[0]


@pytest.fixture
def register(paper: tuple[Passing, Register]) -> Register:
    return paper[1]
