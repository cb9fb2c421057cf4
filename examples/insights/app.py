"""The app: seven consumer groups. `karafka server` in this folder runs it; so does the demo."""

import os

from karafka import App, group, topic

from controllers.collector import CollectorController
from controllers.complexity import ComplexityController
from controllers.habits import HabitsController
from controllers.hot_spots import HotSpotsController
from controllers.lint import LintController
from controllers.message import MessageController
from controllers.size import SizeController

app = App(
    "insights",
    kafka={"bootstrap.servers": os.environ.get("KAFKA_BOOTSTRAP", "localhost:9092")},
    commit_interval=0.5,
)

app.routes.draw(
    group("insights-size", topic("commits", SizeController)),
    group("insights-message", topic("commits", MessageController)),
    group("insights-habits", topic("commits", HabitsController)),
    group("insights-hot-spots", topic("commits", HotSpotsController)),
    group("insights-complexity", topic("commits", ComplexityController)),
    # The slow one has workers of its own, and so delays nobody.
    group("insights-lint", topic("commits", LintController, concurrency=2)),
    group(
        "insights-collector",
        topic("offenses", CollectorController, max_messages=1_000, max_wait=0.2),
        topic("metrics", CollectorController, max_messages=1_000, max_wait=0.2),
    ),
)
