"""The app's `on_start` and `on_stop` hooks, around all that is performed: each called once, in order."""

from __future__ import annotations

import traceback
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import Context
from inspect import isawaitable
from pathlib import Path
from threading import Thread
from typing import Any

from karafka.aio import LoopThread
from karafka.app import App, Hook
from karafka.contexts import AT_WORK
from karafka.errors import StartError, words
from karafka.events import AppHookFailed
from karafka.policy import End, Policy, judge
from karafka.stacks import traceback_of

# How the thread is named that a plain hook runs on.
HOOKS = "karafka-hooks"
# Seconds between looks whether a hook is still waited for.
LOOK = 0.05
# Seconds that a hook may take to clean up once it was cancelled.
CLEANUP = 1.0


class Lifespan:
    """See the module. A plain hook runs on a thread of its own, what is to be awaited on the loop that performs run on;
    all in one `context`, which performs begin with. The thread that starts or stops the server calls, and waits.
    """

    def __init__(self, app: App, context: Context, loop: Callable[[], LoopThread]) -> None:
        """`loop()` answers the loop's thread, running; it is asked when there is something to await."""
        self._app = app
        self._context = context
        self._loop = loop
        self._begun = False
        #: Hooks that were not waited for any longer, or not called because of that.
        self.left: tuple[str, ...] = ()
        #: The exit status that an `on_stop` hook asked for.
        self.status = 0

    def begin(self, unwanted: Callable[[], bool]) -> None:
        """Call the `on_start` hooks, until `unwanted()` says that the server is to stop.

        Raises `StartError` for the first that fails; `SystemExit` and `KeyboardInterrupt` as they are.
        """
        self._begun = True
        for hook in self._app.start_hooks:
            if unwanted():
                return
            name = f"on_start hook {name_of(hook)}"
            error = self._call(name, hook, unwanted)
            if error is None or unwanted():
                continue
            if isinstance(judge(Policy(), error, 1), End):
                raise error
            self._tell(name, error, "the start ends")
            said = f"{type(error).__name__}: {words(error)}".removesuffix(": ")
            raise StartError(f"the {name} raised {said}{_where(hook, error)}; nothing is performed") from error

    def end(self, unwanted: Callable[[], bool]) -> None:
        """Call the `on_stop` hooks, the last one first, if the others were begun; one that fails stops no other.

        None is waited for once `unwanted()` says that the time has passed.
        """
        for hook in reversed(self._app.stop_hooks) if self._begun else ():
            name = f"on_stop hook {name_of(hook)}"
            if unwanted():
                self.left += (f"{name}, not called",)
            elif (error := self._call(name, hook, unwanted)) is not None:
                verdict = "the stop goes on"
                if isinstance(error, CancelledError) and unwanted():
                    self.left += (name,)
                if isinstance(asked := judge(Policy(), error, 1), End):
                    self.status, verdict = asked.status, f"the exit status is {asked.status}"
                self._tell(name, error, verdict)

    def _call(self, name: str, hook: Hook, unwanted: Callable[[], bool]) -> BaseException | None:
        """Call `hook` and wait for its end; what it raised."""
        # One that was left may still be in the context, which takes one at a time.
        context = self._context.copy() if self.left else self._context
        answer: Future[Any] = Future()
        Thread(target=context.run, args=(_answer, answer, hook), name=HOOKS, daemon=True).start()
        if not self._ended(name, answer, unwanted, lambda: None):
            return TimeoutError("it is still at work, and not waited for any longer")
        if (error := answer.exception()) is None and isawaitable(awaitable := answer.result()):
            loop = self._loop()
            answer, cancel = loop.begin(_named(name, awaitable), context)
            if not self._ended(name, answer, unwanted, cancel):
                return TimeoutError("it was cancelled, and is still at work")
            error = answer.exception()
        return error

    def _ended(
        self, name: str, answer: Future[Any], unwanted: Callable[[], bool], cancel: Callable[[], object]
    ) -> bool:
        """Wait for `answer`; if it gets unwanted before, cancel what gives it. Whether it is there."""
        while not _there(answer, LOOK):
            if unwanted():
                cancel()
                if not _there(answer, CLEANUP):
                    self.left += (name,)
                    return False
        return True

    def _tell(self, name: str, error: BaseException, verdict: str) -> None:
        text = traceback_of(error)
        said = f"{type(error).__name__}: {words(error)}"
        self._app.events.tell(AppHookFailed(hook=name, error=said, verdict=verdict, traceback=text))


def name_of(hook: Hook) -> str:
    return getattr(hook, "__qualname__", None) or repr(hook)


def _answer(answer: Future[Any], hook: Hook) -> None:
    try:
        answer.set_result(hook())
    except BaseException as error:  # noqa: BLE001 - it goes to whoever waits
        answer.set_exception(error)


async def _named(name: str, awaitable: Awaitable[Any]) -> None:
    AT_WORK.set((name, None))
    await awaitable


def _there(answer: Future[Any], timeout: float) -> bool:
    try:
        answer.exception(timeout)
    except TimeoutError:
        return False
    return True


def _where(hook: Hook, error: BaseException) -> str:
    """The line of the hook's own file that it happened in."""
    code = getattr(hook, "__code__", None)
    lines = [one for one in traceback.extract_tb(error.__traceback__) if code and one.filename == code.co_filename]
    return f" ({Path(lines[-1].filename).name}, line {lines[-1].lineno})" if lines else ""
