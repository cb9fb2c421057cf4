"""A whole app in one file: whoever follows a channel is notified of its new videos."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from karafka import Abort, App, Controller, DeadLetter, Responder, before_enqueue, outgoing, topic

app = App.from_env("videos", kafka={"bootstrap.servers": "localhost:9092"})

FOLLOWERS = {"karafka": ("ada", "grace")}  # a real app asks its database


@dataclass
class Video:
    title: str
    channel: str
    sent_at: datetime


@dataclass
class Notice:
    user: str
    text: str


class VideosCreatedController(Controller[Video]):
    @before_enqueue
    def drop_old(self) -> None:
        if self.params.sent_at < datetime.now(UTC) - timedelta(minutes=1):
            raise Abort("sent more than a minute ago")

    def perform(self) -> None:
        self.respond_with(self.params)


class VideosCreatedResponder(Responder):
    users_notified = outgoing("users_notified", required=False, multiple=True, key=lambda notice: notice.user)

    def respond(self, video: Video) -> None:
        for user in FOLLOWERS.get(video.channel, ()):
            self.respond_to(self.users_notified, Notice(user, f"{video.title} is new in {video.channel}"))


class UsersNotifiedController(Controller[Notice]):
    async def perform(self) -> None:
        print(f"{self.params.user}: {self.params.text}")


app.routes.draw(
    topic("videos_created", VideosCreatedController, dead_letter=DeadLetter("videos_dead", after=3)),
    topic("users_notified", UsersNotifiedController, order="key"),
)
