"""Messages sent before the start are performed once each, in order, and committed."""

from __future__ import annotations

from karafka import Controller
from karafka.events import Committed
from tests.specs.run import Notes, Stage, running, until


def test_all_is_performed_in_order(stage: Stage) -> None:
    app, topic = stage.app(), stage.topic()
    seen: Notes[tuple[int, int]] = Notes()
    stage.send(topic, [str(number) for number in range(100)])

    @app.topic(topic)
    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add((self.message.partition, self.params))

    with running(app) as server:
        until(lambda: len(seen) == 100)
        until(lambda: any(event.offsets == {(topic, 0): 100} for event in server.told(Committed)))

    assert seen.all() == [(0, number) for number in range(100)]
    assert stage.committed(app.config.client_id, topic) == {0: 100}


def test_a_second_start_goes_on_where_the_first_ended(stage: Stage) -> None:
    topic = stage.topic()
    app = stage.app()
    again = stage.app(client_id=app.config.client_id)
    seen: Notes[int] = Notes()

    class Keep(Controller[int]):
        def perform(self) -> None:
            seen.add(self.params)

    for one, numbers in ((app, range(50)), (again, range(50, 100))):
        one.topic(topic)(Keep)
        stage.send(topic, map(str, numbers))
        with running(one):
            until(lambda numbers=numbers: len(seen) == numbers.stop)  # type: ignore[misc]

    assert seen.all() == list(range(100))
