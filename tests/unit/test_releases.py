"""Which Kafka a broker is, by the requests that it takes."""

from __future__ import annotations

import pytest

from karafka.releases import version_of

# The newest version of some requests (by key), as releases take them. Source: their message definitions.
RELEASES = [
    ({0: 13, 1: 18, 2: 11, 3: 13, 11: 9, 24: 5, 35: 5}, "4.3 or newer"),
    ({0: 13, 1: 18, 2: 11, 3: 13, 11: 9, 24: 5, 35: 4}, "4.2"),
    ({0: 13, 1: 18, 2: 10, 3: 13, 11: 9, 24: 5, 35: 4}, "4.1"),
    ({0: 12, 1: 17, 2: 10, 3: 13, 11: 9, 24: 5, 35: 4}, "4.0"),
    ({0: 11, 1: 17, 2: 9, 3: 12, 11: 9, 24: 5, 35: 4}, "3.9"),
    ({0: 10, 1: 16, 2: 8, 3: 12, 11: 9, 24: 4, 35: 4}, "3.7"),
    ({0: 9, 1: 15, 2: 8, 3: 12, 11: 9, 24: 4, 35: 4}, "3.6"),
    ({0: 9, 1: 13, 2: 7, 3: 12, 11: 9, 24: 3, 35: 4}, "3.3 or 3.4"),
    ({0: 9, 1: 12, 2: 7, 3: 11, 11: 7, 24: 3, 35: 2}, "3.0"),
    ({0: 8, 1: 11, 2: 5, 3: 9, 11: 6, 22: 2, 32: 2}, "2.4"),
]


@pytest.mark.parametrize(("offers", "version"), RELEASES)
def test_a_release_is_known_by_what_no_earlier_one_takes(offers: dict[int, int], version: str) -> None:
    assert version_of(offers) == version


def test_what_is_not_known_is_not_guessed() -> None:
    """A broker before 2.0, or one that has told nothing."""
    assert version_of({0: 3, 1: 4}) == version_of({}) == ""
