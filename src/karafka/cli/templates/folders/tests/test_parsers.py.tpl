"""Lines to videos and back."""

from datetime import UTC, datetime

import pytest

from models import Video
from parsers.videos import VideoCSV


def test_what_is_written_is_read() -> None:
    """Also where a title has what separates values."""
    video = Video('Kafka, "in" Python', "karafka", datetime.now(UTC))

    assert VideoCSV().parse(VideoCSV().generate(video)) == video


def test_a_line_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not enough values"):
        VideoCSV().parse(b"no video")
