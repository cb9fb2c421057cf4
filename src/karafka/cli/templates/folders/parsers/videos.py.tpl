"""Videos as others write them."""

import csv
from datetime import datetime
from io import StringIO

from models import Video


class VideoCSV:
    """A line of title, channel, time. One that is none raises, and the message goes to the dead letters."""

    def parse(self, raw: bytes) -> Video:
        title, channel, sent_at = next(csv.reader([raw.decode()]))
        return Video(title, channel, datetime.fromisoformat(sent_at))

    def generate(self, payload: Video) -> bytes:
        line = StringIO()
        csv.writer(line, lineterminator="").writerow([payload.title, payload.channel, payload.sent_at.isoformat()])
        return line.getvalue().encode()
