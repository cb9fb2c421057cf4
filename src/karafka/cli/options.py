"""Options that several commands share. Nothing here needs the client, so that help is quick."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

C = TypeVar("C", bound=Callable[..., Any])

#: Option, name of its value (a field of `Choice`), help.
CHOICE = (
    ("--group", "groups", "Only this consumer group; again for more. Shell patterns too: 'shop-*'."),
    ("--topic", "topics", "Only this topic, as the app declares it; again for more."),
    ("--exclude-group", "without_groups", "Not this group."),
    ("--exclude-topic", "without_topics", "Not this topic."),
)


def app_option(command: C) -> C:
    """`-A`, for a command that needs the app."""
    said = "The app; app.py's `app`, or $KARAFKA_APP, else."
    return click.option("-A", "--app", "target", metavar="MODULE:ATTRIBUTE", help=said)(command)


def json_option(command: C) -> C:
    """`--json`, for a command that programs may ask too."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")(command)


def timeout_option(command: C) -> C:
    """How long a broker is waited for."""
    said = "Seconds to wait for an answer of the brokers."
    kind = click.FloatRange(0.1)
    return click.option("--timeout", default=5.0, show_default=True, type=kind, metavar="SECONDS", help=said)(command)


def choice_options(command: C) -> C:
    """What a `Choice` is made of."""
    for option, name, said in reversed(CHOICE):
        command = click.option(option, name, multiple=True, metavar="NAME", help=said)(command)
    return command
