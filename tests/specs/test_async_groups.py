"""What tasks of one perform raise together is a group: what is asked for in it is done, what failed in it decides."""

from __future__ import annotations

import asyncio

from karafka import Backoff, Controller, DeadLetter
from karafka.events import Buried, Discarded, Failed, Postponed
from tests.specs.run import Notes, Stage, running, until


def test_each_is_done_as_if_it_were_raised_alone(stage: Stage) -> None:
    """0 is given up, 1 asks for another try, 2 is buried, 3 can never succeed, 4 is tried again."""
    app, topic, grave = stage.app(), stage.topic(), stage.topic()
    stage.send(topic, map(str, range(6)))
    tries: Notes[int] = Notes()

    @app.topic(
        topic, retry=Backoff(0.1, 0.1).on(TimeoutError).never(ValueError), dead_letter=DeadLetter(grave, after=9)
    )
    class Fanning(Controller[int]):
        async def perform(self) -> None:
            tries.add(self.params)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.part())
                tasks.create_task(self.other())

        async def part(self) -> None:
            await asyncio.sleep(0.01)
            first = self.message.attempt == 1
            match self.params:
                case 0:
                    self.discard("old")
                case 1 if first:
                    self.retry(after=0.1)
                case 2:
                    self.bury("broken")
                case 3:
                    raise ValueError("never")
                case 4 if first:
                    raise TimeoutError
                case _:
                    pass

        async def other(self) -> None:
            await asyncio.sleep(0.02)

    with running(app, allow=(Failed,)) as server:
        until(lambda: 5 in tries)

    assert tries.all() == [0, 1, 1, 2, 3, 4, 4, 5]
    assert [one.reason for one in server.told(Discarded)] == ["old"]
    assert [one.offset for one in server.told(Postponed)] == [1, 2]
    assert [one.offset for one in server.told(Buried)] == [2, 3]
    failed = [(one.offset, one.kind, one.error) for one in server.told(Failed)]
    assert failed == [
        (3, "ExceptionGroup", "unhandled errors in a TaskGroup (1 sub-exception): ValueError: never"),
        (4, "ExceptionGroup", "unhandled errors in a TaskGroup (1 sub-exception): TimeoutError"),
    ]
    assert stage.committed(app.config.client_id, topic) == {0: 6}


def test_system_exit_in_a_group_ends_the_process_in_order(stage: Stage) -> None:
    """Whatever else is in it; its message is not finished."""
    app, topic, grave = stage.app(), stage.topic(), stage.topic()
    stage.send(topic, ["0", "1"])
    done: Notes[int] = Notes()

    @app.topic(topic, dead_letter=DeadLetter(grave, after=1))
    class Ending(Controller[int]):
        async def perform(self) -> None:
            if self.params == 1:
                done.add(1)
                raise BaseExceptionGroup("tasks", [ValueError(), SystemExit(7)])

    with running(app, allow=(Failed,), status=7) as server:
        until(lambda: done and server.server.join(0) is not None)

    assert stage.committed(app.config.client_id, topic) == {0: 1}
