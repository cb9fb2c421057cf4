"""The app: seven consumer groups, and the linter as a background job. `karafka server` runs it; so does the demo."""

import os

from karafka import App, group, topic

from controllers.collector import CollectorController
from controllers.complexity import ComplexityController
from controllers.habits import HabitsController
from controllers.hot_spots import HotSpotsController
from controllers.lint import LintController
from controllers.message import MessageController
from controllers.size import SizeController
from responders.findings import FindingsResponder

app = App(
    "insights",
    kafka={"bootstrap.servers": os.environ.get("KAFKA_BOOTSTRAP", "localhost:9092")},
    commit_interval=0.5,
)

app.routes.draw(
    group("insights-size", topic("commits", SizeController, responder=FindingsResponder)),
    group("insights-message", topic("commits", MessageController, responder=FindingsResponder)),
    group("insights-habits", topic("commits", HabitsController, responder=FindingsResponder)),
    group("insights-hot-spots", topic("commits", HotSpotsController, responder=FindingsResponder)),
    group("insights-complexity", topic("commits", ComplexityController, responder=FindingsResponder)),
    # The slow one is performed in the background, by LintWorker, and so delays nobody.
    group("insights-lint", topic("commits", LintController, responder=FindingsResponder, backend="kafka")),
    group(
        "insights-collector",
        topic("offenses", CollectorController, max_messages=1_000, max_wait=0.2),
        topic("metrics", CollectorController, max_messages=1_000, max_wait=0.2),
    ),
)
