"""What the app does, from the topic that it reads to the topic that it answers on."""

from datetime import UTC, datetime, timedelta
from queue import Queue

from app import app
from models import Notice, Video
from parsers.videos import VideoCSV


def test_whoever_follows_a_channel_is_notified(answers: Queue[Notice]) -> None:
    """However the video comes in; of one that is too old nobody hears."""
    now = datetime.now(UTC)
    old, new, imported = (Video(title, "karafka", now) for title in ("Old", "New", "Imported"))
    old.sent_at -= timedelta(hours=1)
    app.producer.produce_sync("videos_created", old, key="karafka")
    app.producer.produce_sync("videos_created", new, key="karafka")
    app.producer.produce_sync("videos_imported", VideoCSV().generate(imported))

    said = sorted((notice.user, notice.text) for notice in (answers.get(timeout=10) for _ in range(4)))

    assert said == [
        ("ada", "Imported is new in karafka"),
        ("ada", "New is new in karafka"),
        ("grace", "Imported is new in karafka"),
        ("grace", "New is new in karafka"),
    ]
