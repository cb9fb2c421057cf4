"""Who has lost a partition is told so: marking and committing say no, and the group's offset stays the new owner's."""

from __future__ import annotations

from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest

from tests.brokers import Running
from tests.process.servers import Scene, app, serve

LOSES = """
@app.topic({topic!r}, marking={marking!r})
class Each(Controller):
    {define} perform(self):
        say("begun", self.params)
        if "SLOW" in os.environ and self.params == 1:
            while not Path("go").exists():
                {sleep}
            while not self.revoked and {patient!r}:
                {sleep}
            marked = self.mark()
            committed = {commit}
            say("marked", marked, "committed", committed, "revoked", self.revoked)
            say("again", self.mark(), {commit}, self.seek(0))
            return
        self.mark()
        say("done", self.params)
"""


@pytest.mark.parametrize("asynchronous", [False, True], ids=["thread", "loop"])
@pytest.mark.parametrize("patient", [True, False], ids=["told before it marks", "marks at once"])
def test_a_process_that_stood_still_is_told_no(
    kafka: Running, tmp_path: Path, *, asynchronous: bool, patient: bool
) -> None:
    """It wakes in the middle of a message that another has performed meanwhile: no commit of it may be confirmed."""
    scene = Scene(kafka.bootstrap, tmp_path)
    body = LOSES.format(
        topic=scene.topic,
        marking="manual",
        define="async def" if asynchronous else "def",
        sleep="await asyncio.sleep(0.01)" if asynchronous else "time.sleep(0.01)",
        commit="await self.commit_async()" if asynchronous else "self.commit()",
        patient=patient,
    )
    source = app(scene.bootstrap, scene.group, body, commit_interval=0.1)
    scene.send(0, 1, 2)
    with serve(tmp_path, source, environment={"SLOW": "1"}) as slow:
        slow.says("begun 1")
        slow.until(lambda: scene.committed == [1], "the first message committed")
        slow.signal(SIGSTOP)
        with serve(tmp_path, source) as quick:
            quick.says("done 2")
            quick.until(lambda: scene.committed == [3], "the new owner's commit")
            (tmp_path / "go").touch()
            slow.signal(SIGCONT)
            slow.says("again False False False")
            assert scene.committed == [3]
            assert slow.stop() == 0, str(slow.heard)
            assert quick.stop() == 0, str(quick.heard)

    (answer,) = [line for line in slow.heard.said if line.startswith("marked")]
    assert "committed False revoked True" in answer
    assert slow.happened("lost"), str(slow.heard)
    assert scene.committed == [3]
