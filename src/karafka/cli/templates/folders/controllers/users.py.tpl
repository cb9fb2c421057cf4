"""Users who are notified."""

from controllers.application import ApplicationController
from models import Notice


class UsersNotifiedController(ApplicationController[Notice]):
    """Waits for a mail server, say: so it is `async`, and users wait side by side."""

    async def perform(self) -> None:
        print(f"{self.params.user}: {self.params.text}")
