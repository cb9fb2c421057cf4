"""New videos."""

from datetime import UTC, datetime, timedelta

from karafka import Abort, before_enqueue

from controllers.application import ApplicationController
from models import Video


class VideosCreatedController(ApplicationController[Video]):
    """Answers by the responder of the same name, in `responders/videos.py`."""

    @before_enqueue
    def drop_old(self) -> None:
        if self.params.sent_at < datetime.now(UTC) - timedelta(minutes=1):
            raise Abort("sent more than a minute ago")

    def perform(self) -> None:
        self.respond_with(self.params)
