"""What the responders have in common."""

from karafka import Responder


class ApplicationResponder(Responder):
    """The base of all responders: topics that each of them sends to are declared here."""
