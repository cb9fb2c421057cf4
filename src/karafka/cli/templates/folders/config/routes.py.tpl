"""Which topics go to which controllers. `karafka routes` shows them, `karafka flow` what goes out for what comes in."""

from karafka import DeadLetter, group, topic

from controllers.users import UsersNotifiedController
from controllers.videos import VideosCreatedController
from parsers.videos import VideoCSV

# Where messages go that failed three times, or cannot be read.
dead = DeadLetter("videos_dead", after=3)

routes = (
    topic("videos_created", VideosCreatedController, dead_letter=dead),
    topic("videos_imported", VideosCreatedController, dead_letter=dead, parser=VideoCSV()),
    # A consumer group of its own, which can run apart: karafka server --group notifications
    # In the background, by workers/users.py: karafka worker
    group("notifications", topic("users_notified", UsersNotifiedController, backend="kafka")),
)
