"""What the perspectives share."""

from __future__ import annotations

from karafka import Controller

from models import Commit


class ApplicationController(Controller[Commit]):
    """Looks at a commit, and responds with what it found: `FindingsResponder`, by the routing table."""
