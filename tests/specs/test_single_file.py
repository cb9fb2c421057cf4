"""The example in one file works as its README says."""

from __future__ import annotations

from pathlib import Path

from tests.readmes import blocks, embedded, printed

FOLDER = Path(__file__).parents[2] / "examples" / "single_file"
README = FOLDER / "README.md"


def test_what_its_readme_shows_is_what_happens() -> None:
    """Whoever follows a channel is notified of the video that is sent."""
    first, second = blocks(README, "sh")
    (expected,) = blocks(README, "text")
    with embedded(FOLDER, first) as (server, address):
        printed(FOLDER, second.replace("127.0.0.1:PORT", address))
        for line in expected.splitlines():
            server.says(line)

    assert sorted(server.heard.said) == expected.splitlines()


def test_its_flow_is_as_shown() -> None:
    (shown,) = blocks(README, "console")
    command, _, output = shown.removeprefix("$ ").partition("\n")

    assert printed(FOLDER, command) == output
