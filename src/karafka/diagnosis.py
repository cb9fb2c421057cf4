"""What the client's errors mean to a person: the cause in one plain sentence, with the way out.

Pure: from the client's code and words, and the settings that were used. Which words it uses when was seen against real
brokers; `tests/process/test_brokers_*.py` see them again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from karafka.client import Trouble
from karafka.config import Settings


class Cause(Enum):
    """What is wrong. Those of the cluster are the same for all groups that use it."""

    #: No broker answers, said without a reason: whatever else was said counts.
    ALL_DOWN = auto()
    UNREACHABLE = auto()
    UNRESOLVED = auto()
    #: Connects, and hears nothing that makes sense.
    MUTE = auto()
    NOT_KAFKA = auto()
    CREDENTIALS = auto()
    MECHANISM = auto()
    NO_SASL = auto()
    NO_TLS = auto()
    TLS = auto()
    #: Refused to this user: a topic, or the group.
    TOPIC = auto()
    GROUP = auto()
    OTHER = auto()


#: What waiting cannot help, where it never worked.
HOPELESS = frozenset(
    {Cause.NOT_KAFKA, Cause.CREDENTIALS, Cause.MECHANISM, Cause.NO_SASL, Cause.NO_TLS, Cause.TLS},
)
OF_THE_CLUSTER = HOPELESS | {Cause.UNREACHABLE, Cause.UNRESOLVED, Cause.MUTE}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`about` is the topic or group that is refused, or the client's code where it has no other name."""

    cause: Cause
    sentence: str
    about: str = ""

    @property
    def key(self) -> tuple[Cause, str]:
        return self.cause, self.about

    @property
    def once(self) -> str:
        """The sentence for who asks a single time, and does not try again."""
        return self.sentence.partition(" It is tried again")[0]


_ADDRESS = re.compile(r"([\w.-]+:\d+)/")
_CONNECT = re.compile(r"failed: ([^(]+?)(?: \(after|$)")
_OFFERED = re.compile(r"supported mechanisms: ?([\w,-]*)")
_PARTITION = re.compile(r"([\w.-]+) \[\d+\]")
_SAID = re.compile(r"Authentication failed: ([^(]+?)(?: \(after|$)")


def diagnose(trouble: Trouble, kafka: Settings, group: str, *, grave: bool = False) -> Diagnosis | None:
    """What `trouble` means to somebody who set the client up with `kafka`; `grave`: it is about a dead letter topic.

    None for what says nothing by itself: a topic that is refused and not named. The watch finds which.
    """
    code, text = trouble.code, trouble.text
    there = found[1] if (found := _ADDRESS.search(text)) else str(kafka.get("bootstrap.servers", ""))
    match code:
        case "_ALL_BROKERS_DOWN":
            return Diagnosis(Cause.ALL_DOWN, text)
        case "_TRANSPORT" | "_SSL" | "_RESOLVE" | "_BAD_MSG":
            return _connection(code, text, there, kafka)
        case "_AUTHENTICATION" | "SASL_AUTHENTICATION_FAILED":
            return _authentication(text, there, kafka)
        case "TOPIC_AUTHORIZATION_FAILED":
            topic = trouble.topic or (named[1] if (named := _PARTITION.match(text)) else None)
            return None if topic is None else _refused(topic, group, grave=grave)
        case "GROUP_AUTHORIZATION_FAILED":
            allow = f"allow READ on group {group!r}; it goes on as soon as that is so"
            return Diagnosis(Cause.GROUP, f"the cluster refuses this group to its user: {allow}", group)
        case _:
            return Diagnosis(Cause.OTHER, f"{group}: {text}", code)


def _refused(topic: str, group: str, *, grave: bool) -> Diagnosis:
    if grave:
        what, allow = "dead letter topic", "allow WRITE on it; until then what is to go there holds up its partition"
    else:
        what, allow = "topic", f"allow READ on it; {group!r} reads it as soon as that is so"
    return Diagnosis(Cause.TOPIC, f"the cluster refuses {what} {topic!r} to this user: {allow}", topic)


def _connection(code: str, text: str, there: str, kafka: Settings) -> Diagnosis:
    servers = kafka.get("bootstrap.servers")
    if "certificate verify failed" in text:
        ask = "does ssl.ca.location name the authority that signed it, and is it made out to that host name?"
        return Diagnosis(Cause.TLS, f"the certificate of {there} is not trusted: {ask}")
    if "SSL_HANDSHAKE" in text or "PLAINTEXT broker" in text:
        ask = "which security.protocol asks for: name its TLS port, or say plaintext"
        return Diagnosis(Cause.NO_TLS, f"{there} does not speak TLS, {ask}")
    match code:
        case "_SSL":
            return Diagnosis(Cause.TLS, f"TLS with {there} fails: {text}")
        case "_RESOLVE":
            ask = "is the name in bootstrap.servers right? It is tried again until it can"
            return Diagnosis(Cause.UNRESOLVED, f"{there} cannot be resolved to an address: {ask}")
        case "_BAD_MSG":
            ask = "put a broker's address and port into bootstrap.servers"
            return Diagnosis(Cause.NOT_KAFKA, f"what answers at {there} is not Kafka: {ask}")
        case _:
            reason = f" ({said[1]})" if (said := _CONNECT.search(text)) else ""
            ask = "is Kafka running there, and is bootstrap.servers right? It is tried again until one does"
            return Diagnosis(Cause.UNREACHABLE, f"no broker answers at {servers}{reason}: {ask}")


def mute(kafka: Settings) -> Diagnosis:
    """Connections are taken, and nothing comes of it."""
    protocol = str(kafka.get("security.protocol", "plaintext")).lower()
    return Diagnosis(
        Cause.MUTE,
        f"{kafka.get('bootstrap.servers')} takes connections, but does not talk as Kafka does: is it a broker's port, "
        f"and does it want TLS or SASL (security.protocol is {protocol} here)? It is tried again",
    )


def _authentication(text: str, there: str, kafka: Settings) -> Diagnosis:
    offered = _OFFERED.search(text)
    if offered is not None and not offered[1]:
        return Diagnosis(
            Cause.NO_SASL,
            f"{there} does not use SASL, which security.protocol asks for: name its SASL port, or leave SASL out",
        )
    if offered is not None:
        asked = kafka.get("sasl.mechanism") or kafka.get("sasl.mechanisms")
        takes = ", ".join(offered[1].split(","))
        return Diagnosis(Cause.MECHANISM, f"the cluster does not take sasl.mechanism {asked!r}: it takes {takes}")
    reason = f" ({said[1]})" if (said := _SAID.search(text)) else ""
    return Diagnosis(
        Cause.CREDENTIALS,
        f"the cluster refuses the user {kafka.get('sasl.username', '')!r}{reason}: are sasl.username and sasl.password "
        "right?",
    )
