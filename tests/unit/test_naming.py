"""Classes that belong together by their names: found where they belong, and nowhere else."""

from __future__ import annotations

import sys
import textwrap
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Any

import pytest

from karafka import App, ConfigError, Responder, outgoing, topic
from karafka.naming import NAMED, Found
from karafka.routing import Route
from tests.unit.conftest import Write

CONTROLLER = "from karafka import *\nclass {name}Controller(Controller):\n    def perform(self): ...\n"
RESPONDER = "from karafka import *\nclass {name}Responder(Responder):\n    def respond(self): ...\n"


class OwnResponder(Responder):
    users = outgoing("users")

    def respond(self) -> None: ...


def routed(home: str, name: str = "UsersController", **options: Any) -> Route:
    controller: Any = import_module(home)
    for part in name.split("."):
        controller = getattr(controller, part)
    app = App("shop", {"bootstrap.servers": "nowhere:9092"})
    app.routes.draw(topic("users", controller, **options))
    return app.subscriptions()[0].routes[0]


def found(home: str, name: str = "UsersController") -> str | None:
    """The whole name of the responder that is found."""
    responder = routed(home, name).responder
    return None if responder is None else f"{responder.cls.__module__}.{responder.cls.__qualname__}"


USERS = {"name": "Users"}


class TestWhereItIsFound:
    def test_beside_the_controller(self, write: Write) -> None:
        """Declared before it or behind it: it is looked for once all is there."""
        write({"one": CONTROLLER.format(**USERS) + RESPONDER.format(**USERS)})

        assert found("one") == "one.UsersResponder"
        assert routed("one").responder == Found(sys.modules["one"].UsersResponder, "by its name, in one")

    @pytest.mark.parametrize(
        ("home", "place"),
        [
            ("shop.controllers.users", "shop.responders.users"),
            ("shop.controllers.users", "shop.responders"),
            ("shop.controllers", "shop.responders"),
            ("shop.controllers.admin.users", "shop.responders.admin.users"),
            ("shop.controllers.users_controller", "shop.responders.users_responder"),
            ("controllers.users", "responders.users"),
        ],
    )
    def test_in_the_folder_beside_its_own(self, write: Write, home: str, place: str) -> None:
        write({home: CONTROLLER.format(**USERS), place: RESPONDER.format(**USERS)})

        assert found(home) == f"{place}.UsersResponder"

    def test_in_what_a_package_re_exports(self, write: Write, tmp_path: Path) -> None:
        write({"shop.controllers.users": CONTROLLER.format(**USERS), "shop.responders.all": RESPONDER.format(**USERS)})
        (tmp_path / "shop/responders/__init__.py").write_text("from shop.responders.all import *\n")

        assert found("shop.controllers.users") == "shop.responders.all.UsersResponder"

    def test_within_the_same_class(self, write: Write) -> None:
        """Classes are name spaces too."""
        inside = textwrap.indent(
            (CONTROLLER + RESPONDER).format(**USERS).replace("from karafka import *\n", ""), "    "
        )
        text = f"from karafka import *\nclass Admin:\n{inside}\n{RESPONDER.format(**USERS)}"
        write({"nested": text})

        assert found("nested", "Admin.UsersController") == "nested.Admin.UsersResponder"

    def test_the_route_s_word_comes_first(self, write: Write) -> None:
        write({"two": CONTROLLER.format(**USERS) + RESPONDER.format(**USERS)})

        assert routed("two", responder=OwnResponder).responder == Found(OwnResponder, NAMED)
        assert routed("two", responder=None).responder is None


class TestWhereItIsNot:
    @pytest.mark.parametrize(
        ("home", "place"),
        [
            ("shop.controllers.users", "billing.responders.users"),
            ("shop.controllers.users", "responders.users"),
            ("shop.controllers.admin.users", "shop.responders.users"),
            ("shop.controllers.admin.users", "shop.responders"),
            ("shop.users", "shop.responders.users"),
            ("shop.controllers.users", "shop.responders.payments"),
        ],
    )
    def test_in_a_foreign_name_space(self, write: Write, home: str, place: str) -> None:
        write({home: CONTROLLER.format(**USERS), place: RESPONDER.format(**USERS)})

        assert found(home) is None

    def test_in_what_others_have_installed_at_the_top_of_all_names(self, write: Write, tmp_path: Path) -> None:
        """`responders` may be anybody's."""
        foreign = tmp_path / "site"
        foreign.mkdir()
        write({"controllers.users": CONTROLLER.format(**USERS)})
        (foreign / "responders.py").write_text(RESPONDER.format(**USERS))
        sys.path.append(str(foreign))
        try:
            invalidate_caches()
            assert found("controllers.users") is None
            assert "responders" not in sys.modules, "nor is it imported"
            import_module("responders")
            assert found("controllers.users") is None
        finally:
            sys.path.remove(str(foreign))

    def test_outside_of_the_controller_s_class(self, write: Write) -> None:
        inside = textwrap.indent(CONTROLLER.format(**USERS).replace("from karafka import *\n", ""), "    ")
        write({"apart": f"from karafka import *\nclass Admin:\n{inside}\n{RESPONDER.format(**USERS)}"})

        assert found("apart", "Admin.UsersController") is None

    def test_for_a_controller_of_another_kind_of_name(self, write: Write) -> None:
        """Of `Users` nothing is guessed."""
        write({"plain": CONTROLLER.format(**USERS).replace("UsersController", "Users") + RESPONDER.format(**USERS)})

        assert found("plain", "Users") is None


class TestWhatIsWrong:
    def test_something_else_of_that_name_is_told(self, write: Write) -> None:
        write({"other": CONTROLLER.format(**USERS) + "class UsersResponder: ...\n"})

        with pytest.raises(ConfigError, match=r"is no Responder: make it one, or write topic\(…, responder=None\)"):
            found("other")

    def test_a_module_that_cannot_be_imported_is_told(self, write: Write) -> None:
        write({"shop.controllers.users": CONTROLLER.format(**USERS), "shop.responders.users": "import nothing_there\n"})

        with pytest.raises(ConfigError, match=r"shop\.responders\.users, beside .*nothing_there"):
            found("shop.controllers.users")

    def test_an_async_responder_of_a_plain_controller_is_told(self, write: Write) -> None:
        write(
            {
                "mixed": CONTROLLER.format(**USERS)
                + RESPONDER.format(**USERS).replace("def respond", "async def respond")
            }
        )

        with pytest.raises(ConfigError, match=r"UsersResponder\.respond is async"):
            found("mixed")

    def test_one_without_respond_is_told(self, write: Write) -> None:
        write({"empty": CONTROLLER.format(**USERS) + "class UsersResponder(Responder): ...\n"})

        with pytest.raises(ConfigError, match="has no respond"):
            found("empty")
