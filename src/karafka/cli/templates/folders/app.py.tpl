"""The app: its settings and its routes. `karafka server` in this folder runs it."""

from karafka import App

from config import settings
from config.routes import routes

app = App.from_env("example_app", settings.kafka, env=settings.env, concurrency=settings.concurrency)
app.routes.draw(*routes)
