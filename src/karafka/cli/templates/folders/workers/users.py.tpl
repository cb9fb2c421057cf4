"""How users are notified."""

from karafka import Backoff

from workers.application import ApplicationWorker


class UsersNotifiedWorker(ApplicationWorker):
    """Found by its name. A mail server that is away is tried again for forty minutes."""

    queue = "mail"
    time_limit = 30.0
    backoff = Backoff(5, 600)
