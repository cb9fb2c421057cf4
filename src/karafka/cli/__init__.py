"""The commands: a file each. They read input, call the hall, print; nothing else imports them."""

from karafka.cli.main import main

__all__ = ["main"]
