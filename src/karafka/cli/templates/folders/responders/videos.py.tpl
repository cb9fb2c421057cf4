"""What goes out for new videos."""

from karafka import outgoing

from models import Notice, Video
from responders.application import ApplicationResponder

FOLLOWERS = {"karafka": ("ada", "grace")}  # a real app asks its database


class VideosCreatedResponder(ApplicationResponder):
    """Notifies each who follows the video's channel."""

    users_notified = outgoing("users_notified", required=False, multiple=True, key=lambda notice: notice.user)

    def respond(self, video: Video) -> None:
        for user in FOLLOWERS.get(video.channel, ()):
            self.respond_to(self.users_notified, Notice(user, f"{video.title} is new in {video.channel}"))
