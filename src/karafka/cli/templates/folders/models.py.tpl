"""What comes in and goes out, by topic. What arrives is checked against these types before a controller sees it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass
class Video:
    """videos_created, videos_imported"""

    title: str
    channel: str
    sent_at: datetime


@dataclass
class Notice:
    """users_notified"""

    user: str
    text: str
