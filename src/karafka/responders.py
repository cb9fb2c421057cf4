"""What a controller answers with: `Responder` declares the topics that it sends to, and what must be sent to each.

    class UsersResponder(Responder):
        users_notified = outgoing("users_notified")
        audit = outgoing("audit", required=False, multiple=True)

        def respond(self, user: User) -> None:
            self.respond_to(self.users_notified, user, key=user.id)

Whether that was kept to is known once `respond` has ended, and before anything is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import isasyncgenfunction, isawaitable, iscoroutinefunction, isgeneratorfunction
from itertools import chain
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias

from karafka.application import Producing
from karafka.checks import check_topic
from karafka.delivery import Delivery
from karafka.errors import ConfigError, ResponderError
from karafka.letters import Headers, Key, Row, written
from karafka.parsers import Parser, check_parser

# Topic, payload, key, headers and partition of a message.
Sent: TypeAlias = tuple[str, Any, Key, Headers | None, int | None]


@dataclass(frozen=True, slots=True)
class OutgoingTopic:
    """One topic that a responder sends to; made by `outgoing`."""

    name: str
    required: bool = True
    multiple: bool = False
    parser: Parser | None = None
    key: Callable[[Any], Key] | None = None
    partitioner: Callable[[Any], int] | None = None

    def __post_init__(self) -> None:
        where = f"outgoing({self.name!r})"
        check_topic(self.name, "outgoing(…)")
        if self.parser is not None:
            check_parser(where, self.parser)
        for option in ("key", "partitioner"):
            value = getattr(self, option)
            if value is not None and not callable(value):
                raise ConfigError(
                    f"{where}: {option}={value!r}, but a function of the payload is expected; one that is the same for "
                    f"all is named where it is sent: self.respond_to(…, {'key' if option == 'key' else 'partition'}=…)"
                )


def outgoing(
    topic: str,
    *,
    required: bool = True,
    multiple: bool = False,
    parser: Parser | None = None,
    key: Callable[[Any], Key] | None = None,
    partitioner: Callable[[Any], int] | None = None,
) -> OutgoingTopic:
    """A topic that a `Responder` sends to, as an attribute of its class.

    `required`: each `respond` must send to it. `multiple`: it may do so more than once. `parser` writes its payloads,
    the producer's otherwise (JSON). `key`, `partitioner`: the key, the partition's number, of a payload for which
    `respond_to` names none. Raises `ConfigError`.
    """
    return OutgoingTopic(topic, required, multiple, parser, key, partitioner)


class Responder:
    """Declares and sends what a controller answers with: subclass it and write `respond`; `def` or `async def`.

    There is one for each `self.respond_with(…)`, which hands its arguments on to `respond`. Topics are inherited; one
    of the same attribute, or of the same name, takes the place of the inherited one.
    """

    #: All topics that it may send to, by name.
    topics: ClassVar[Mapping[str, OutgoingTopic]] = {}
    # What must be sent to, by name.
    _required: ClassVar[frozenset[str]] = frozenset()
    # What was sent so far, by topic, in the order of first use.
    _sent: dict[str, list[Sent]] | None = None
    # Whether something of it is not as declared.
    _amiss = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.topics = _topics_of(cls)
        cls._required = frozenset(topic.name for topic in cls.topics.values() if topic.required)
        respond = cls.respond
        if isgeneratorfunction(respond) or isasyncgenfunction(respond):
            raise ConfigError(
                f"{cls.__qualname__}.respond has a yield, so that calling it would do nothing: take the yield out"
            )

    def respond(self, *args: Any, **options: Any) -> Any:
        """What is sent, by `respond_to`; its arguments are those of `respond_with`."""
        raise NotImplementedError(f"{type(self).__qualname__} has no respond: write it, with what it sends")

    def respond_to(
        self,
        topic: OutgoingTopic | str,
        payload: Any,
        *,
        key: Key = None,
        headers: Headers | None = None,
        partition: int | None = None,
    ) -> None:
        """Send `payload` to one of its topics, once `respond` has ended and all of it is seen to be as declared.

        Raises `InvalidMessageError` for a payload that its parser cannot write.
        """
        name = topic if isinstance(topic, str) else topic.name
        declared = self.topics.get(name)
        if declared is not None:
            if key is None and declared.key is not None:
                key = declared.key(payload)
            if partition is None and declared.partitioner is not None:
                partition = declared.partitioner(payload)
            if declared.parser is not None:
                payload = written(declared.parser.generate, name, key, payload)
        else:
            self._amiss = True
        one, sent = (name, payload, key, headers, partition), self._sent
        if sent is None:
            self._sent = {name: [one]}
        elif name in sent:
            sent[name].append(one)
            self._amiss = self._amiss or declared is None or not declared.multiple
        else:
            sent[name] = [one]

    @classmethod
    def call(cls, *args: Any, producer: Producing, **options: Any) -> list[Delivery]:
        """Respond outside of a controller, by `producer`, and wait for the deliveries: in the order of sending.

        Raises `ResponderError`, and as `Producer.produce_many_sync` does. For `async def` see `call_async`.
        """
        if iscoroutinefunction(cls.respond):
            raise ConfigError(f"{cls.__qualname__}.respond is async: await {cls.__qualname__}.call_async(…)")
        return producer.produce_many_sync(_rows(cls().answer(args, options)))

    @classmethod
    async def call_async(cls, *args: Any, producer: Producing, **options: Any) -> list[Delivery]:
        """`call` for `async def`; `respond` may be either."""
        responder = cls()
        sent = (
            await responder.answer_async(args, options)
            if iscoroutinefunction(cls.respond)
            else responder.answer(args, options)
        )
        return await producer.produce_many_async(_rows(sent))

    # ── the package's own ────────────────────────────────────────────────────────────────────────────────────

    def answer(self, args: tuple[Any, ...], options: dict[str, Any]) -> Iterator[Sent]:
        """What `respond` sends, topics in the order of first use. Raises `ResponderError`."""
        answer = self.respond(*args, **options)
        if answer is not None and isawaitable(answer):
            if hasattr(answer, "close"):
                answer.close()
            raise ConfigError(
                f"{type(self).__qualname__}.respond gave something back that must be awaited, so nothing was sent: is "
                "it an async def behind a decorator that is not?"
            )
        return self._checked()

    async def answer_async(self, args: tuple[Any, ...], options: dict[str, Any]) -> Iterator[Sent]:
        """The same where it is `async def`."""
        await self.respond(*args, **options)
        return self._checked()

    def _checked(self) -> Iterator[Sent]:
        sent = self._sent or {}
        if not self._amiss and self._required.issubset(sent):
            return chain.from_iterable(sent.values())
        wrong = list(_wrong(self.topics, sent))
        raise ResponderError(f"{type(self).__qualname__} has sent nothing, because {'; '.join(wrong)}", problems=wrong)


def _rows(sent: Iterator[Sent]) -> list[Row]:
    """As producers take them."""
    return [
        Row(topic=topic, payload=payload, key=key, headers=headers, partition=partition)
        for topic, payload, key, headers, partition in sent
    ]


def check_responder(where: str, responder: object) -> None:
    """Raises `ConfigError` for what is none."""
    if not isinstance(responder, type) or not issubclass(responder, Responder):
        raise ConfigError(
            f"{where}: responder={responder!r}, but a subclass of Responder is expected, or None for no responder"
        )
    if responder.respond is Responder.respond:
        raise ConfigError(
            f"{where}: {responder.__qualname__} has no respond: write `def respond(self, …) -> None` (or async def) "
            "with what it sends"
        )


def _topics_of(responder: type[Responder]) -> Mapping[str, OutgoingTopic]:
    """Its topics by name, inherited ones first. Raises `ConfigError`."""
    found: dict[str, tuple[OutgoingTopic, type]] = {}
    for base in reversed(responder.__mro__):
        for attribute, value in vars(base).items():
            if isinstance(value, OutgoingTopic):
                if hasattr(Responder, attribute):
                    raise ConfigError(
                        f"{base.__qualname__}.{attribute} = outgoing(…) would take the place of what Responder has of "
                        "that name: choose another"
                    )
                found[attribute] = value, base
            else:
                found.pop(attribute, None)
    topics: dict[str, tuple[OutgoingTopic, type]] = {}
    for attribute, (topic, base) in found.items():
        if topic.name in topics and topics[topic.name][1] is base:
            raise ConfigError(
                f"{base.__qualname__}.{attribute}: the topic {topic.name!r} is declared twice; one that may be sent to "
                "more than once is outgoing(…, multiple=True)"
            )
        topics[topic.name] = topic, base
    return MappingProxyType({name: topic for name, (topic, _) in topics.items()})


def _wrong(topics: Mapping[str, OutgoingTopic], sent: Mapping[str, list[Sent]]) -> Iterator[str]:
    """What was not done as declared, each in words."""
    for name, rows in sent.items():
        if name not in topics:
            known = ", ".join(map(repr, topics)) or "none"
            yield f"it does not declare {name!r} (but {known})"
        elif len(rows) > 1 and not topics[name].multiple:
            yield f"{name!r} was sent to {len(rows)} times, and is not multiple=True"
    for topic in topics.values():
        if topic.required and topic.name not in sent:
            yield f"{topic.name!r} is required, and was not sent to"
