"""How a controller's jobs are performed: a worker found by its name, named, or made; and found again by a job."""

from __future__ import annotations

import gc
import textwrap
from importlib import import_module, reload
from typing import Any

import pytest

from karafka import App, Backoff, ConfigError, Controller, Worker, topic
from karafka.naming import NAMED, Found
from karafka.workers import check_worker, every, find, named, worker_of
from tests.unit.conftest import Write

HEAD = "from karafka import *\n"
CONTROLLER = HEAD + "class {0}Controller(Controller):\n    def perform(self): ...\n"
WORKER = HEAD + "class {0}Worker(Worker):\n    queue = {1!r}\n"


def controller(home: str, name: str = "UsersController") -> Any:
    found: Any = import_module(home)
    for part in name.split("."):
        found = getattr(found, part)
    return found


class TestSettings:
    def test_what_nobody_says(self) -> None:
        class Plain(Worker): ...

        assert (Plain.queue, Plain.priority, Plain.time_limit) == ("default", 0, 60.0)
        assert (Plain.max_retries, Plain.backoff) == (20, Backoff(1, 300))

    def test_they_are_inherited_and_overridden(self) -> None:
        class Base(Worker):
            queue = "slow"
            max_retries = 3

        class One(Base):
            max_retries = 0

        assert (One.queue, One.max_retries, Base.max_retries) == ("slow", 0, 3)

    @pytest.mark.parametrize(
        ("slip", "meant"),
        [
            ("max_retry", "max_retries"),
            ("retries", "max_retries"),
            ("timelimit", "time_limit"),
            ("back_off", "backoff"),
        ],
    )
    def test_a_slip_is_not_taken_for_something_else(self, slip: str, meant: str) -> None:
        with pytest.raises(ConfigError, match=rf"Slow\.{slip} is read by nobody: is {meant} meant\?"):
            type("Slow", (Worker,), {slip: 3})

    def test_what_is_not_like_a_setting_is_yours(self) -> None:
        class Own(Worker):
            """With what a team may want to say of it."""

            team = "video"
            SIZES = (1, 2)

        assert Own.team == "video"

    @pytest.mark.parametrize(
        "settings",
        [
            {"queue": "a.b-C_9"},
            {"queue": "x" * 100},
            {"priority": -5},
            {"time_limit": None},
            {"time_limit": 0.1},
            {"time_limit": 7},
            {"max_retries": 0},
            {"backoff": Backoff(0.1, 1).never(ValueError)},
        ],
        ids=repr,
    )
    def test_what_is_taken(self, settings: dict[str, Any]) -> None:
        type("Taken", (Worker,), settings)

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"queue": ""}, "Refused.queue='': a name of letters, digits, dots, hyphens and underscores is expected"),
            ({"queue": "a b"}, "Refused.queue='a b': a name of letters"),
            ({"queue": "ü"}, "a name of letters"),
            ({"queue": "a\n"}, "a name of letters"),
            ({"queue": "x" * 101}, "a name of letters"),
            ({"queue": None}, "Refused.queue=None: a name of letters"),
            ({"priority": 1.5}, "Refused.priority=1.5: a whole number is expected, lower goes first"),
            ({"priority": True}, "Refused.priority=True: a whole number is expected"),
            ({"time_limit": 0}, "Refused.time_limit=0: seconds are expected, or None for no limit"),
            ({"time_limit": -1}, "Refused.time_limit=-1: a number of at least 0 is expected"),
            ({"time_limit": "60"}, "Refused.time_limit='60': a number of at least 0 is expected"),
            ({"time_limit": float("inf")}, "Refused.time_limit=inf"),
            ({"max_retries": -1}, "Refused.max_retries=-1: a whole number of at least 0 is expected"),
            ({"max_retries": None}, "Refused.max_retries=None: a whole number of at least 0 is expected"),
            ({"backoff": 5}, r"Refused.backoff=5: a Backoff is expected, such as Backoff\(1, 300\)"),
        ],
        ids=repr,
    )
    def test_what_cannot_work_is_refused_where_it_is_declared(self, settings: dict[str, Any], said: str) -> None:
        with pytest.raises(ConfigError, match=said):
            type("Refused", (Worker,), settings)

    @pytest.mark.parametrize("worker", [object, "VideosWorker", Worker(), None, Backoff])
    def test_what_is_no_worker(self, worker: object) -> None:
        with pytest.raises(ConfigError, match=r"here: .* is no worker: a subclass of Worker is expected"):
            check_worker("here", worker)

    def test_worker_itself_is_none(self) -> None:
        """A job that names it would find nobody, in a queue that nobody may read."""
        with pytest.raises(ConfigError, match="a subclass of Worker is expected"):
            check_worker("here", Worker)

    def test_a_subclass_is_one(self) -> None:
        class Plain(Worker): ...

        assert check_worker("here", Plain) is Plain


class TestWhichOne:
    @pytest.mark.parametrize(
        ("home", "place"),
        [
            ("one", "one"),
            ("shop.controllers.users", "shop.workers.users"),
            ("shop.controllers.users", "shop.workers"),
            ("shop.controllers.admin.users_controller", "shop.workers.admin.users_worker"),
        ],
    )
    def test_the_one_of_its_name(self, write: Write, home: str, place: str) -> None:
        texts = {home: CONTROLLER.format("Users")}
        texts[place] = texts.get(place, "") + WORKER.format("Users", "mine")
        write(texts)
        found = worker_of(controller(home))

        assert (found.cls.__module__, found.cls.queue) == (place, "mine")
        assert found.source == f"by its name, in {place}"

    @pytest.mark.parametrize(
        ("home", "place"),
        [
            ("two", "two"),
            ("shop.controllers.users", "shop.controllers.users"),
            ("shop.controllers.users", "shop.workers.application"),
            ("shop.controllers.users", "shop.workers"),
            ("shop.controllers.admin.users", "shop.workers"),
            ("shop.controllers.admin.users", "shop.workers.admin.application"),
        ],
    )
    def test_where_nobody_wrote_it_it_is_made_from_that_of_the_application(
        self, write: Write, home: str, place: str
    ) -> None:
        texts = {home: CONTROLLER.format("Users")}
        texts[place] = texts.get(place, "") + WORKER.format("Application", "ours")
        write(texts)
        found = worker_of(controller(home))

        assert (found.cls.__module__, found.cls.__qualname__) == (home, "UsersWorker")
        assert (found.cls.queue, found.source) == ("ours", f"made from {place}.ApplicationWorker")
        assert found.cls.__doc__ == "Made for UsersController."

    def test_the_nearest_application_comes_first(self, write: Write) -> None:
        write(
            {
                "shop.controllers.admin.users": CONTROLLER.format("Users"),
                "shop.workers.admin.application": WORKER.format("Application", "near"),
                "shop.workers.application": WORKER.format("Application", "far"),
            }
        )
        assert worker_of(controller("shop.controllers.admin.users")).cls.queue == "near"

    def test_without_one_it_is_made_of_what_nobody_says(self, write: Write) -> None:
        write({"alone": CONTROLLER.format("Users")})
        found = worker_of(controller("alone"))

        assert found.source == "made, as none is written"
        assert found.cls.__bases__ == (Worker,)
        assert named(found.cls) == "alone:UsersWorker"

    def test_within_a_class_it_is_made_there(self, write: Write) -> None:
        inside = textwrap.indent(CONTROLLER.format("Users").removeprefix(HEAD), "    ")
        write({"nested": f"{HEAD}class Admin:\n{inside}"})
        assert named(worker_of(controller("nested", "Admin.UsersController")).cls) == "nested:Admin.UsersWorker"

    def test_it_is_made_once(self, write: Write) -> None:
        """However often the routes are looked at; and it lives as long as its controller is routed."""
        write({"again": CONTROLLER.format("Users") + WORKER.format("Application", "ours")})
        first = worker_of(controller("again")).cls
        gc.collect()

        assert worker_of(controller("again")).cls is first

    def test_what_bears_the_name_of_the_application_s_must_be_one(self, write: Write) -> None:
        """It was meant to be: who forgets the base class would have settings that nobody obeys."""
        write({"meant": CONTROLLER.format("Users") + "class ApplicationWorker:\n    queue = 'ours'\n"})
        with pytest.raises(ConfigError, match=r"meant\.ApplicationWorker: .* is no worker: a subclass of Worker"):
            worker_of(controller("meant"))

    def test_something_else_of_its_name_is_told_with_a_way_out_that_works(self, write: Write) -> None:
        write({"other": CONTROLLER.format("Users") + "class UsersWorker: ...\n"})
        with pytest.raises(ConfigError, match=r"is no Worker: make it one, or name another: topic\(…, worker=…\)"):
            worker_of(controller("other"))

        class Another(Worker): ...

        assert routed(controller("other"), worker=Another).cls is Another


def routed(of: Any, **options: Any) -> Found[Worker]:
    app = App("shop", {"bootstrap.servers": "nowhere:9092"}, backend="kafka")
    app.routes.draw(topic("users", of, **options))
    background = app.subscriptions()[0].routes[0].background
    assert background is not None
    return background.worker


class TestByAJob:
    def test_it_is_found_by_its_name(self, write: Write) -> None:
        write({"there": WORKER.format("Users", "mine")})
        assert find("there:UsersWorker") is None, "nothing is imported for it"
        made = import_module("there").UsersWorker

        assert find("there:UsersWorker") is made
        assert find("there:OthersWorker") is None
        assert find("") is None

    def test_of_one_that_was_declared_again_the_last_counts(self, write: Write) -> None:
        write({"twice": WORKER.format("Users", "before")})
        module = import_module("twice")
        before = module.UsersWorker
        write({"twice": WORKER.format("Users", "after")})
        reload(module)

        found = find("twice:UsersWorker")
        assert before.queue == "before"
        assert found is not None
        assert found.queue == "after"

    def test_those_of_the_app_s_packages_are_all_it_has(self, write: Write) -> None:
        """A class of somebody else's brings no queue along."""
        write(
            {
                "grocer.controllers.users": CONTROLLER.format("Users"),
                "grocer.workers.users": WORKER.format("Users", "mine"),
                "foreign.workers": WORKER.format("Foreign", "theirs"),
            }
        )
        import_module("foreign.workers")
        import_module("grocer.workers.users")

        assert {one.__name__ for one in every(["grocer"])} == {"UsersWorker"}
        assert {one.__name__ for one in every(["foreign", "grocer"])} == {"UsersWorker", "ForeignWorker"}

    def test_one_that_was_made_is_nobody_else_s(self, write: Write) -> None:
        """Else which queues there are would go by when it is collected, once its controller has gone."""
        write({"left": CONTROLLER.format("Users")})
        made = worker_of(controller("left")).cls

        assert made.__module__ == "left"
        assert list(every(["left"])) == []

    def test_a_route_s_own_word(self) -> None:
        class Own(Controller[Any]):
            def perform(self) -> None: ...

        class Mine(Worker): ...

        assert routed(Own, worker=Mine) == Found(Mine, NAMED)
