"""What goes out, without a broker: the recorder keeps what is sent in memory."""

from datetime import UTC, datetime

from karafka import Producer

from models import Video
from responders.videos import VideosCreatedResponder


def test_each_follower_has_a_notice_of_their_own() -> None:
    producer = Producer.recorder()

    VideosCreatedResponder.call(Video("New", "karafka", datetime.now(UTC)), producer=producer)

    assert [(sent.topic, sent.key) for sent in producer.recorded] == [
        ("users_notified", b"ada"),
        ("users_notified", b"grace"),
    ]


def test_a_channel_that_nobody_follows_is_nobody_s_news() -> None:
    producer = Producer.recorder()

    VideosCreatedResponder.call(Video("New", "unheard-of", datetime.now(UTC)), producer=producer)

    assert producer.recorded == []
