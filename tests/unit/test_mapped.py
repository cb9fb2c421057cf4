"""The Kafka port by the app's names: whatever is asked goes by the cluster's, and comes back by the app's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from karafka import TopicPrefix
from karafka.client import Answer, Consumer, Effect, Identities, Kept, News, Posted, Rebalance, Refused, Trouble
from karafka.confluent import ConfluentConsumer, ConfluentTopics
from karafka.letters import Letter
from karafka.mapped import MappedConsumer, MappedSender, MappedTopics, MappedTransactor, consumer, topics
from karafka.mapper import Names
from karafka.messages import Place
from karafka.sender import ConfluentTransactor

NOWHERE: Mapping[str, Any] = {"bootstrap.servers": "", "log_level": 0}
HERE, THERE = Place("videos", 1), Place("staging.videos", 1)
KEPT = Kept(7, "beside")


def names() -> Names:
    return Names(TopicPrefix("staging."))


class Asked:
    """In the place of a client: `answers` by method, and what each was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers, self.calls = answers, []  # type: tuple[dict[str, Any], list[tuple[str, tuple[Any, ...]]]]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def asked(*arguments: Any) -> Any:
            self.calls.append((name, arguments))
            return self.answers.get(name)

        return asked


class Ours:
    """A listener that is told of partitions."""

    def __init__(self) -> None:
        self.told: list[tuple[str, list[Place]]] = []

    def assigned(self, places: Sequence[Place]) -> Mapping[Place, int]:
        self.told.append(("assigned", list(places)))
        return dict.fromkeys(places, 3)

    def revoked(self, places: Sequence[Place]) -> None:
        self.told.append(("revoked", list(places)))

    def lost(self, places: Sequence[Place]) -> None:
        self.told.append(("lost", list(places)))


# Method, what it is asked, what the client is asked, what that answers, what is answered.
QUESTIONS: list[tuple[str, tuple[Any, ...], tuple[Any, ...], Any, Any]] = [
    ("committed", ([HERE], 5.0), ([THERE], 5.0), {THERE: KEPT}, {HERE: KEPT}),
    ("bounds", ([HERE], 5.0), ([THERE], 5.0), {THERE: (1, 9)}, {HERE: (1, 9)}),
    ("at", ([HERE], 60.0, 5.0), ([THERE], 60.0, 5.0), {THERE: 4}, {HERE: 4}),
    ("partitions", ("videos", 5.0), ("staging.videos", 5.0), [THERE], [HERE]),
    ("seek", ({HERE: 4},), ({THERE: 4},), None, None),
    ("position", ([HERE],), ([THERE],), {THERE: 4}, {HERE: 4}),
    ("pause", ([HERE],), ([THERE],), None, None),
    ("resume", ([HERE],), ([THERE],), None, None),
    ("commit", ({HERE: KEPT},), ({THERE: KEPT},), None, None),
    ("reaches", ("videos", 1.0), ("staging.videos", 1.0), True, True),
    ("slipped", (), (), True, True),
    ("forgetful", (), (), True, True),
    ("member", (), (), "member", "member"),
    ("abandon", (), (), None, None),
    ("close", (), (), None, None),
]


@pytest.mark.parametrize(("method", "given", "asked", "answered", "answer"), QUESTIONS)
def test_each_question_goes_there_and_its_answer_comes_back(
    method: str, given: Any, asked: Any, answered: Any, answer: Any
) -> None:
    client: Any = Asked(**{method: answered})

    assert getattr(MappedConsumer(client, names()), method)(*given) == answer
    assert client.calls == [(method, asked)]


def test_no_question_is_left_out() -> None:
    """One that is new in the port is asked here too."""
    port = {name for name, _ in inspect.getmembers(Consumer, inspect.isfunction) if not name.startswith("_")}

    assert port == {row[0] for row in QUESTIONS} | {"subscribe", "rejoin", "fetch", "news"}


@pytest.mark.parametrize("method", ["subscribe", "rejoin"])
def test_partitions_come_and_go_by_the_app_s_names(method: str) -> None:
    client: Any = Asked()
    ours = Ours()
    getattr(MappedConsumer(client, names()), method)(("videos",), ours)

    ((called, (subscribed, rebalance)),) = client.calls
    told: Rebalance = rebalance
    assert (called, subscribed) == (method, ["staging.videos"])
    assert told.assigned([THERE]) == {THERE: 3}
    told.revoked([THERE])
    told.lost([THERE])
    assert ours.told == [("assigned", [HERE]), ("revoked", [HERE]), ("lost", [HERE])]


def test_messages_bear_the_app_s_names() -> None:
    class Record:
        name = "staging.videos"

        def set_topic(self, name: str) -> None:
            self.name = name

    records: list[Any] = [Record(), Record()]
    client: Any = Asked(fetch=[(THERE, records)])

    assert MappedConsumer(client, names()).fetch(10, 0.1) == [(HERE, records)]
    assert [one.name for one in records] == ["videos", "videos"]


def test_what_the_client_says_is_told_by_the_app_s_names() -> None:
    """What is none of the app's keeps its own."""
    said: list[News] = [
        Answer({THERE: 7}, {THERE: "ILLEGAL_GENERATION"}),
        Trouble("X", "staging.videos [1]: not authorized", Effect.HOLD),
        Trouble("X", "refused", Effect.NEWS, "staging.videos", THERE),
        Trouble("X", "foreign", Effect.NEWS, "videos"),
    ]
    client: Any = Asked(news=said)

    assert MappedConsumer(client, names()).news() == [
        Answer({HERE: 7}, {HERE: "ILLEGAL_GENERATION"}),
        Trouble("X", "videos [1]: not authorized", Effect.HOLD),
        Trouble("X", "refused", Effect.NEWS, "videos", HERE),
        Trouble("X", "foreign", Effect.NEWS, "videos"),
    ]


@pytest.mark.parametrize(
    ("method", "given", "asked", "answered", "answer"),
    [
        ("names", (5.0,), (5.0,), frozenset({"staging.videos", "videos"}), frozenset({"videos"})),
        (
            "ids",
            (["videos", "clips"], 5.0),
            (["staging.videos", "staging.clips"], 5.0),
            Identities("cluster", {"staging.videos": "id"}, frozenset({"staging.clips"})),
            Identities("cluster", {"videos": "id"}, frozenset({"clips"})),
        ),
        ("ends", ([HERE], 5.0), ([THERE], 5.0), {THERE: 9}, {HERE: 9}),
        ("committed", ("g", [HERE], 5.0), ("g", [THERE], 5.0), {THERE: KEPT}, {HERE: KEPT}),
        ("unowned", ("g", ["videos"], 5.0), ("g", ["staging.videos"], 5.0), frozenset({THERE}), frozenset({HERE})),
        ("unowned", ("g", ["videos"], 5.0), ("g", ["staging.videos"], 5.0), None, None),
    ],
)
def test_what_topics_there_are_is_answered_so_too(
    monkeypatch: pytest.MonkeyPatch, method: str, given: Any, asked: Any, answered: Any, answer: Any
) -> None:
    calls: list[tuple[Any, ...]] = []

    def there(_self: object, *arguments: Any) -> Any:
        calls.append(arguments)
        return answered

    monkeypatch.setattr(ConfluentTopics, method, there)

    assert getattr(MappedTopics(NOWHERE, names()), method)(*given) == answer
    assert calls == [asked]


def test_what_is_sent_goes_where_the_cluster_has_it() -> None:
    sent: list[Any] = []
    sender = MappedSender(NOWHERE, names())
    posted: Posted = lambda _error, _receipt: None  # noqa: E731 - as short as it is
    sender._client.flush(0)
    sender.close()

    class Client:
        def produce(self, *arguments: Any) -> None:
            sent.append(arguments)

    from karafka.mapped import _sending  # noqa: PLC0415 - what both senders have for `quick`

    sender.quick = _sending(Client().produce, names())
    sender.send(Letter("videos", b"1", None, None), posted)

    assert sent == [("staging.videos", b"1", None, -1, posted, None, 0, None)]
    with pytest.raises(Refused, match="is no topic name"):
        sender.send(Letter("no topic", b"1", None, None), posted)


def test_offsets_in_a_transaction_are_of_the_cluster_s_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[Any] = []
    monkeypatch.setattr(ConfluentTransactor, "add_offsets", lambda _self, *arguments: added.append(arguments))
    transactor = MappedTransactor({**NOWHERE, "transactional.id": "t"}, names())

    transactor.add_offsets({HERE: KEPT}, "member", 5.0)
    transactor.close()

    assert added == [({THERE: KEPT}, "member", 5.0)]


def test_without_a_mapper_it_is_the_client_itself() -> None:
    """Nothing stands between: a message pays nothing for the names of others."""
    bare = consumer(NOWHERE, None, group="g", queue=1_000_000)
    mapped = consumer(NOWHERE, names(), group="g", queue=1_000_000)
    bare.close()
    mapped.close()

    assert (type(bare), type(mapped)) == (ConfluentConsumer, MappedConsumer)
    assert (type(topics(NOWHERE, None)), type(topics(NOWHERE, names()))) == (ConfluentTopics, MappedTopics)
