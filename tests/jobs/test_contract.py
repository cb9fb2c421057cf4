"""What every job queue promises: what a server hands over is performed by a worker, all of it, as the server would."""

from __future__ import annotations

import pytest

from tests.jobs.conftest import Makes

TELLS = """
@dataclass
class Video:
    id: int
    title: str

@app.topic({source}, backend=BACKEND)
class VideosController(ApplicationController, Controller[Video]):
    DEFINE perform(self):
        message = self.message
        self.tell("done", params=[type(self.params).__name__, self.params.id, self.params.title],
                  key=repr(message.key), headers=repr(message.headers), raw=repr(message.raw),
                  place=[message.topic, message.partition, message.offset], timestamp=message.timestamp,
                  attempt=message.attempt, pid=os.getpid(), env=self.app.config.client_id)
""".replace("@dataclass", "from dataclasses import dataclass\n@dataclass", 1)


@pytest.mark.parametrize("define", ["def", "async def"])
def test_a_job_is_the_message_as_it_came(yard: Makes, define: str) -> None:
    """Params of the declared type, key, headers, place, time: performed in another process than that which read it."""
    with yard(TELLS.replace("DEFINE", define)) as it:
        raw = '{"id": 7, "title": "Ä\\u0000 \\" ✓"}'
        it.stage.send(it.source, [raw], key=b"\xff\x00k", headers=[("a", b"\xfe"), ("b", None), ("ü", "text")])
        server, worker = it.server(), it.worker()
        (told,) = it.heard("done")
        it.handed_over(1)

        assert told["params"] == ["Video", 7, 'Ä\x00 " ✓']
        assert told["key"] == repr(b"\xff\x00k")
        assert told["headers"] == repr({"a": b"\xfe", "b": None, "ü": b"text"})
        assert told["raw"] == repr(raw.encode())
        assert told["place"] == [it.source, 0, 0]
        assert told["id"] == f"{it.group}/{it.source}/0/0"
        assert told["attempt"] == 1
        assert told["env"] == it.group
        assert server.process.pid != told["pid"]
        assert (server.stop(), worker.stop()) == (0, 0), str(worker.heard)
