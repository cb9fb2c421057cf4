"""The whole app at work, for tests that want it."""

from collections.abc import Iterator
from queue import Queue

import pytest
from karafka import Controller, Server, group, topic
from karafka.devbroker import Embedded

from app import app
from models import Notice

ANSWERS: Queue[Notice] = Queue()


class AnswersController(Controller[Notice]):
    """Takes what the app has sent."""

    def perform(self) -> None:
        ANSWERS.put(self.params)


@pytest.fixture(scope="session")
def answers() -> Iterator[Queue[Notice]]:
    """What the app answers, while its server runs on the embedded broker: send to it by `app.producer`."""
    app.routes.draw(group("tests", topic("users_notified", AnswersController)))
    with Embedded() as broker:
        app.override({"bootstrap.servers": broker.bootstrap, **broker.consumer_settings})
        server = Server(app, jobs=True)
        broker.create(topic for one in server.subscriptions for topic in one.topics)
        server.start()
        yield ANSWERS
        server.stop()
