"""Where an app runs, and what its `KARAFKA_…` variables say: read, checked, shown."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import pytest

from karafka import App, ConfigError, Environment
from karafka.app import AppOptions
from karafka.cli.info import described, sheet
from karafka.config import Config
from karafka.environment import COMMANDS, FOR_THE_APP, SETTINGS, unread

KAFKA = {"bootstrap.servers": "localhost:9092"}
BROKERS = {"KARAFKA_BROKERS": "one:9092,two:9092"}


def app(code: Mapping[str, Any] | None = None, /, **variables: str) -> App:
    """`App.from_env("shop", **code)` where the variables are these."""
    return App.from_env("shop", **{"variables": {**BROKERS, **variables}, **(code or {})})


def refused(**variables: str) -> str:
    with pytest.raises(ConfigError) as error:
        app(**variables)
    assert "\n" not in str(error.value)
    return str(error.value)


class TestWhereItRuns:
    def test_it_is_development_unless_it_is_said(self) -> None:
        """An empty variable says nothing: files that set it so are common."""
        assert Environment.from_env(variables={}) == "development"
        assert Environment.from_env(variables={"KARAFKA_ENV": ""}) == "development"

    def test_it_is_asked_by_its_name(self) -> None:
        env = Environment.from_env(variables={"KARAFKA_ENV": "production"})

        assert env.production
        assert not env.development
        assert f"{env}" == "production"

    def test_a_slip_is_refused_on_both_sides(self) -> None:
        """Else a server in production would run with what is meant for a laptop, and nobody would know."""
        with pytest.raises(ConfigError, match="KARAFKA_ENV: 'prodution' is none of development, test, staging, prod"):
            Environment.from_env(variables={"KARAFKA_ENV": "prodution"})
        with pytest.raises(AttributeError, match="no environment of that name, but development, test"):
            _ = Environment("production").prodution

    def test_others_are_named_by_the_app(self) -> None:
        """Then all of them can be asked for everywhere; the first is the one that nothing need be said of."""
        env = Environment.from_env(("laptop", "qa", "live"), variables={"KARAFKA_ENV": "qa"})

        assert (env.qa, env.live) == (True, False)
        assert Environment.from_env(("laptop", "qa"), variables={}) == "laptop"
        assert App("shop", KAFKA, env=env).env.qa

    @pytest.mark.parametrize("name", ["eu-west", "", "title"])
    def test_what_cannot_be_asked_for_is_refused(self, name: str) -> None:
        with pytest.raises(ConfigError, match=f"{name!r} cannot be asked for"):
            Environment.from_env(("development", name), variables={})

    def test_a_copy_knows_what_it_knows(self) -> None:
        assert copy.deepcopy(Environment("qa", ("qa", "live"))).live is False

    def test_any_app_knows_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One that reads no other variable too. What the code says wins: it says so of this app alone."""
        monkeypatch.setenv("KARAFKA_ENV", "staging")

        assert App("shop", KAFKA).env.staging
        assert App("shop", KAFKA, env="test").env.test
        with pytest.raises(ConfigError, match=r"App\(env=…\): 'tets'"):
            App("shop", KAFKA, env="tets")


class TestItsSettings:
    def test_variables_are_enough(self) -> None:
        made = App.from_env(variables={**BROKERS, "KARAFKA_CLIENT_ID": "shop"})

        assert made.config.client_id == "shop"
        assert made.config.kafka == {"bootstrap.servers": "one:9092,two:9092"}

    def test_they_win_over_the_code(self) -> None:
        """The code has what holds where nobody says otherwise."""
        made = app(
            {"kafka": {**KAFKA, "linger.ms": 5}, "concurrency": 5, "processes": 2},
            KARAFKA_CONCURRENCY="20",
            KARAFKA_CLIENT_ID="shop-2",
        )

        assert (made.config.client_id, made.config.concurrency, made.config.processes) == ("shop-2", 20, 2)
        assert made.config.kafka == {"bootstrap.servers": "one:9092,two:9092", "linger.ms": 5}

    def test_each_setting_that_is_a_plain_value_has_one(self) -> None:
        """With units where people write them."""
        made = app(
            KARAFKA_CONCURRENCY="7",
            KARAFKA_PROCESSES="3",
            KARAFKA_COMMIT_INTERVAL="500ms",
            KARAFKA_SHUTDOWN_TIMEOUT="0",
            KARAFKA_DRAIN_TIMEOUT="2.5",
            KARAFKA_STALL_AFTER="5m",
            KARAFKA_MEMORY="1GiB",
            KARAFKA_START="latest",
            KARAFKA_ENV="test",
        ).config

        assert (made.concurrency, made.processes, made.memory, made.start) == (7, 3, 2**30, "latest")
        assert (made.commit_interval, made.shutdown_timeout, made.drain_timeout, made.stall_after) == (0.5, 0, 2.5, 300)
        assert made.env.test
        assert SETTINGS.keys() == set(Config.__dataclass_fields__) - {
            "client_id",
            "kafka",
            "retry",
            "env",
            "topic_mapper",
        }

    def test_any_setting_of_librdkafka_has_one(self) -> None:
        made = app(
            KARAFKA_KAFKA_SECURITY_PROTOCOL="SASL_PLAINTEXT",
            KARAFKA_KAFKA_SASL_MECHANISM="PLAIN",
            KARAFKA_KAFKA_SASL_USERNAME="ada",
            KARAFKA_KAFKA_SASL_PASSWORD=" right",
            KARAFKA_KAFKA_LOG_LEVEL="3",
        )

        assert made.config.kafka == {
            "bootstrap.servers": "one:9092,two:9092",
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "ada",
            "sasl.password": " right",
            "log_level": "3",
        }

    def test_empty_ones_say_nothing(self) -> None:
        assert app({"concurrency": 9}, KARAFKA_CONCURRENCY="", KARAFKA_KAFKA_SASL_PASSWORD="").variables == (
            "KARAFKA_BROKERS",
        )

    def test_what_is_written_in_code_reads_none_of_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """But for where it runs: an app that names its brokers gets no others."""
        monkeypatch.setenv("KARAFKA_BROKERS", "one:9092")

        assert App("shop", KAFKA).config.kafka == KAFKA

    def test_from_env_takes_what_an_app_takes(self) -> None:
        assert AppOptions.__annotations__.keys() == inspect.signature(App).parameters.keys() - {"client_id", "kafka"}


class TestMistakes:
    @pytest.mark.parametrize(
        ("variable", "value", "words"),
        [
            ("KARAFKA_CONCURRENCY", "many", "KARAFKA_CONCURRENCY='many': a whole number of at least 1"),
            ("KARAFKA_CONCURRENCY", "0", "KARAFKA_CONCURRENCY=0: a whole number of at least 1"),
            ("KARAFKA_STALL_AFTER", "soon", "KARAFKA_STALL_AFTER='soon': a duration such as 90s"),
            ("KARAFKA_DRAIN_TIMEOUT", "-1", "KARAFKA_DRAIN_TIMEOUT=-1.0: a number of at least 0"),
            ("KARAFKA_DRAIN_TIMEOUT", "nan", "KARAFKA_DRAIN_TIMEOUT=nan"),
            ("KARAFKA_MEMORY", "much", "KARAFKA_MEMORY='much': a size such as 512MB"),
            ("KARAFKA_START", "begin", "'begin': 'earliest' or 'latest' is expected"),
            ("KARAFKA_ENV", "prod", "KARAFKA_ENV: 'prod' is none of development"),
            ("KARAFKA_KAFKA_GROUP_ID", "videos", "by KARAFKA_KAFKA_…, sets 'group.id', which belongs to the framework"),
            ("KARAFKA_KAFKA_SASL_PASSWRD", "right", "sets 'sasl.passwrd', which librdkafka does not know"),
            ("KARAFKA_KAFKA_BOOTSTRAP_SERVERS", "three:9092", "name different brokers: set one of them"),
            ("KARAFKA_CONCURENCY", "5", "KARAFKA_CONCURENCY is read by nobody: is KARAFKA_CONCURRENCY meant?"),
            ("KARAFKA_SASL_PASSWORD", "right", "as in KARAFKA_KAFKA_SASL_PASSWORD"),
            ("KARAFKA_BOOTSTRAP_SERVERS", "x:1", "as in KARAFKA_KAFKA_BOOTSTRAP_SERVERS"),
        ],
    )
    def test_are_refused_by_the_name_of_the_variable(self, variable: str, value: str, words: str) -> None:
        """In one sentence, and no secret in it."""
        said = refused(**{variable: value})

        assert words in said
        assert "right" not in said

    def test_the_variables_of_others_are_left_alone(self) -> None:
        """Kubernetes makes some of its own for a service that is called karafka; an app has its own too."""
        others = {"KARAFKA_SERVICE_HOST": "10.0.0.1", "KARAFKA_PORT": "tcp://10.0.0.1:9092", "KARAFKA_SHOP_TITLE": "x"}
        known = dict.fromkeys(COMMANDS, "info")

        assert app(**others, **known).variables == ("KARAFKA_BROKERS",)

    def test_an_app_has_a_name_and_brokers(self) -> None:
        with pytest.raises(ConfigError, match=r"has no name: write App\.from_env"):
            App.from_env(variables=BROKERS)
        with pytest.raises(ConfigError, match="no broker is named: set KARAFKA_BROKERS"):
            App.from_env("shop", variables={"KARAFKA_BROKERS": " "})


class TestInfo:
    def shown(self, app: App) -> dict[str, list[str]]:
        told = {"versions": dict.fromkeys(("karafka", "confluent-kafka", "librdkafka", "python", "executable"), "1")}
        told["versions"]["system"] = "Linux"
        return dict(sheet({**told, "app": described(app, "app:app", "app.py"), "clusters": []}))

    def test_it_says_where_it_runs_and_which_variables_told_it(self) -> None:
        """Their names; what is secret in them is masked among the settings."""
        shown = self.shown(app(KARAFKA_ENV="production", KARAFKA_KAFKA_SASL_PASSWORD="hunter2"))

        assert shown["environment"] == ["production"]
        assert shown["variables"] == ["KARAFKA_BROKERS", "KARAFKA_ENV", "KARAFKA_KAFKA_SASL_PASSWORD"]
        assert "hunter2" not in repr(shown)

    def test_it_says_that_one_is_set_in_vain(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever sets it looks here next."""
        assert unread({"KARAFKA_ENV": "test", "KARAFKA_APP": "app", "KARAFKA_MEMORY": ""}) == []
        monkeypatch.setenv("KARAFKA_BROKERS", "one:9092")

        (said,) = self.shown(App("shop", KAFKA))["variables"]

        assert said == "set, but not read, as the app is not made by App.from_env(…): KARAFKA_BROKERS"


def test_every_variable_is_in_the_docs() -> None:
    """With what it is for."""
    from pathlib import Path  # noqa: PLC0415

    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()

    assert [one for one in (*FOR_THE_APP, *COMMANDS) if f"`{one}`" not in text] == []
