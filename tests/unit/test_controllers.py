"""What users subclass: which type its payload has, and what cannot be routed to."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Generic, Optional, TypeVar

import pytest

from karafka.app import App
from karafka.controllers import (
    Abort,
    BatchController,
    Context,
    Controller,
    ahead_of,
    before_enqueue,
    check_controller,
    hooks_of,
    payload_type,
)
from karafka.errors import ConfigError
from karafka.events import Events

T = TypeVar("T")


@dataclass
class Video:
    id: int


class Plain(Controller[Video]):
    def perform(self) -> None: ...


class TestPayloadType:
    """The type between the brackets."""

    def test_it_is_what_stands_there(self) -> None:
        """For messages and batches, optional or not, of any kind."""

        class Videos(BatchController[Video]): ...

        class Maybe(Controller[Video | None]): ...

        class Many(Controller[list[int]]): ...

        assert [payload_type(one) for one in (Plain, Videos, Maybe, Many)] == [Video, Video, Video | None, list[int]]

    def test_without_brackets_it_is_whatever_comes(self) -> None:
        """What JSON gives."""

        class Untyped(Controller): ...  # type: ignore[type-arg]

        class Anything(Controller[Any]): ...

        assert payload_type(Untyped) is payload_type(Anything) is Any

    def test_it_is_inherited(self) -> None:
        """By a subclass, and by one of that."""

        class Sub(Plain): ...

        class SubSub(Sub): ...

        assert payload_type(SubSub) is Video

    def test_a_subclass_may_say_it_anew(self) -> None:
        """The nearest word counts."""

        class Base(Controller[Any]): ...

        class Sub(Base, Controller[Video]): ...

        assert payload_type(Sub) is Video

    def test_a_base_of_one_s_own_may_leave_it_open(self) -> None:
        """`ApplicationController[Video]` is a controller of videos, as mypy believes it."""

        class ApplicationController(Controller[T], Generic[T]):
            def perform(self) -> None: ...

        class Videos(ApplicationController[Video]): ...

        class SubVideos(Videos): ...

        assert payload_type(Videos) is Video
        assert payload_type(SubVideos) is Video

    @pytest.mark.parametrize("name", ["Video", "Video | None", "list[Video]"])
    def test_a_name_in_quotes_is_looked_up_in_its_module(self, name: str) -> None:
        """For types that are declared further down."""
        module = made_module("tests_unit_quoted", f"class Quoted(Controller[{name!r}]): ...\nclass Video: ...")

        assert payload_type(module.Quoted) == eval(name, vars(module))

    def test_a_name_in_quotes_is_looked_up_where_it_was_written(self) -> None:
        """Not in the module of a subclass."""
        made_module("tests_unit_base", "class Video: ...\nclass Base(Controller['Video']): ...")
        module = made_module("tests_unit_sub", "from tests_unit_base import Base\nclass Sub(Base): ...")

        assert payload_type(module.Sub).__module__ == "tests_unit_base"

    def test_a_name_inside_a_type_is_looked_up_too(self) -> None:
        """`Optional["Video"]` holds a name."""
        text = "from typing import Optional\nclass Nested(Controller[Optional['Video']]): ...\nclass Video: ..."
        module = made_module("tests_unit_nested", text)

        assert payload_type(module.Nested) == Optional[module.Video]  # noqa: UP045

    @pytest.mark.parametrize("name", ["Nowhere", "Video.nothing"])
    def test_a_name_that_is_not_there_is_refused_with_its_class(self, name: str) -> None:
        """In one sentence."""
        module = made_module("tests_unit_missing", f"class Missing(Controller[{name!r}]): ...\nclass Video: ...")

        with pytest.raises(ConfigError, match=r"Missing is a Controller\["):
            payload_type(module.Missing)


def made_module(name: str, text: str) -> Any:
    """A module as a user's file would be one."""
    module = ModuleType(name)
    sys.modules[name] = module
    exec("from karafka.controllers import Controller\n" + text, vars(module))
    return module


class TestChecks:
    """What cannot be routed to is told before anything starts, in one sentence."""

    @pytest.mark.parametrize("odd", [None, 1, "Plain", object, Exception, Plain(), lambda: None])
    def test_only_controllers(self, odd: Any) -> None:
        """A subclass, not an instance or something else."""
        with pytest.raises(ConfigError, match="cannot be routed to"):
            check_controller(odd)

    def test_without_perform(self) -> None:
        """The class is named, and how it is written."""

        class Empty(Controller[Any]): ...

        class EmptyBatch(BatchController[Any]): ...

        for controller in (Empty, EmptyBatch):
            with pytest.raises(ConfigError, match=r"Empty.* has no perform: write `def perform"):
                check_controller(controller)

    def test_perform_that_is_no_method(self) -> None:
        """Nothing would be performed."""

        class Odd(Controller[Any]):
            perform: Any = None

        with pytest.raises(ConfigError, match="perform"):
            check_controller(Odd)

    def test_perform_that_wants_arguments(self) -> None:
        """The payload is `self.params`; each message would fail."""

        class Wanting(Controller[Any]):
            def perform(self, params: Any) -> None: ...  # type: ignore[override]

        with pytest.raises(ConfigError, match="perform"):
            check_controller(Wanting)

    def test_perform_that_yields(self) -> None:
        """It would do nothing, and count as finished."""

        class Yielding(Controller[Any]):
            def perform(self) -> Any:
                yield

        class YieldingAsync(Controller[Any]):
            async def perform(self) -> Any:
                yield

        for controller in (Yielding, YieldingAsync):
            with pytest.raises(ConfigError, match="perform"):
                check_controller(controller)

    def test_init_that_wants_arguments(self) -> None:
        """With the way out."""

        class Wanting(Controller[Any]):
            def __init__(self, database: str) -> None: ...

            def perform(self) -> None: ...

        with pytest.raises(ConfigError, match=r"Wanting.__init__ wants arguments.*setup\(cls, app\)"):
            check_controller(Wanting)

    def test_init_without_arguments_is_fine(self) -> None:
        """And so are defaults and stars."""

        class Fine(Controller[Any]):
            def __init__(self, database: str = "", *args: Any, **kwargs: Any) -> None: ...

            def perform(self) -> None: ...

        assert check_controller(Fine) is Fine

    def test_an_async_hook_needs_an_async_perform(self) -> None:
        """The other way round is fine."""

        class Wrong(Controller[Any]):
            @before_enqueue
            async def look(self) -> None: ...

            def perform(self) -> None: ...

        class Right(Controller[Any]):
            @before_enqueue
            def look(self) -> None: ...

            async def perform(self) -> None: ...

        with pytest.raises(ConfigError, match=r"Wrong\.look is async, but its perform is not"):
            check_controller(Wrong)
        assert check_controller(Right) is Right


class TestHooks:
    """Found by their mark, on any base."""

    def test_in_order_of_declaration_inherited_first(self) -> None:
        """Each once."""

        class Mixin:
            @before_enqueue
            def mixed(self) -> None: ...

        class Base(Controller[Any]):
            @before_enqueue
            def one(self) -> None: ...

        class Sub(Mixin, Base):
            @before_enqueue
            def two(self) -> None: ...

            @before_enqueue
            def one(self) -> None: ...

        assert hooks_of(Sub) == ("one", "mixed", "two")

    def test_the_method_stays_what_it_is(self) -> None:
        """It can be called like any other."""

        class Hooked(Controller[Any]):
            @before_enqueue
            def look(self) -> str:
                return "looked"

        assert Hooked().look() == "looked"


APP = App("shop", kafka={"bootstrap.servers": "localhost:9092"})


def _nothing(raw: bytes | None) -> None:
    """A parser of nothing."""


class TestAhead:
    """The class that parses ahead is the user's, carrying the route's context."""

    def test_it_is_still_the_user_s_class(self) -> None:
        """Name, module, instances; the user's own class knows nothing of the route."""
        context = Context("g", _nothing, _nothing, Events(), APP)

        made = ahead_of(Plain, context)

        assert made is not None
        assert isinstance(made(), Plain)
        assert (made.__name__, made.__qualname__, made.__module__) == ("Plain", "Plain", __name__)
        assert made().app is APP
        assert not hasattr(Plain(), "_context")

    def test_a_class_that_wants_words_from_its_subclasses_gets_along(self) -> None:
        """`__init_subclass__` with arguments of its own is nobody's mistake: it is not subclassed."""

        class Registered(Controller[Any]):
            def __init_subclass__(cls, *, name: str) -> None:
                super().__init_subclass__()

        class Named(Registered, name="named"):
            def perform(self) -> None: ...

        assert ahead_of(Named, Context("g", _nothing, _nothing, Events(), APP)) is None


def test_an_abort_carries_its_reason() -> None:
    """Raised by name, or by the controller."""
    with pytest.raises(Abort, match="not mine") as raised:
        Plain().abort("not mine")

    assert raised.value.reason == "not mine"
    assert Abort().reason == ""
