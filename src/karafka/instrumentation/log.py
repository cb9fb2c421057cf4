"""Events as log lines: readable in a terminal, JSON when asked. Through `logging`, so your own handlers work too."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from typing import Any, Literal

from karafka import events as told
from karafka.events import Event, Events

Format = Literal["text", "json"]
logger = logging.getLogger("karafka")

# What is said of each kind, and how loud; a kind below one of these is said as that.
SAYINGS: Mapping[type[Event], tuple[int, str]] = {
    told.ServerStarted: (logging.INFO, "{client_id} started: {groups}"),
    told.ServerQuiet: (logging.INFO, "quiet ({reason}): what ran has ended, the partitions are kept"),
    told.StacksShown: (logging.WARNING, "stacks of all threads and tasks:\n{stacks}"),
    told.Late: (logging.WARNING, "{what} is late by {by:.1f} s{at_work}:\n{stacks}"),
    told.CaughtUp: (logging.WARNING, "{what} goes on after {after:.1f} s{at_work}"),
    told.ServerStopping: (logging.INFO, "stopping ({reason}): what runs may take up to {timeout:g} s"),
    told.ServerStopped: (logging.INFO, "stopped, status {status}{unfinished}"),
    told.AppHookFailed: (logging.ERROR, "{hook} failed, {verdict}: {error}\n{traceback}"),
    told.ListenerDied: (logging.CRITICAL, "{group}: the listener died, the server stops: {error}\n{traceback}"),
    told.ProcessStarted: (logging.INFO, "process {process} started, pid {pid}"),
    told.ProcessOutdated: (logging.INFO, "process {process}, pid {pid}, is replaced: {reason}"),
    told.ProcessEnded: (logging.INFO, "process {process}, pid {pid}, ended, status {status}"),
    told.ProcessDied: (logging.ERROR, "process {process} {error}"),
    told.ProcessHung: (logging.ERROR, "process {process}, pid {pid}, is killed: {error}\n{stacks}"),
    told.SwarmStarted: (logging.INFO, "{client_id}: {processes} processes run"),
    told.SwarmRestarted: (logging.INFO, "all processes were replaced, in {waited:.1f} s"),
    told.RestartGivenUp: (logging.ERROR, "the restart is given up: {error}"),
    told.SwarmQuiet: (logging.INFO, "all processes are quiet ({reason})"),
    told.SwarmStopping: (logging.INFO, "stopping all processes ({reason}): what runs may take up to {timeout:g} s"),
    told.SwarmStopped: (logging.INFO, "all processes have ended, status {status}"),
    told.StatusHidden: (logging.WARNING, "karafka status cannot ask this server: {reason}"),
    told.SupervisorGone: (logging.ERROR, "{error}"),
    told.Assigned: (logging.INFO, "{group}: assigned {starts}"),
    told.Revoked: (logging.INFO, "{group}: gave up {positions} after {waited:.2f} s"),
    told.Lost: (logging.ERROR, "{group}: lost {places}: {error}"),
    told.Unowned: (logging.ERROR, "{group}: {places}: {error}"),
    told.HeldUp: (logging.ERROR, "{group}: {topic}/{partition}: {error}"),
    told.Overran: (logging.ERROR, "{group}: {topic}/{partition}/{offset} {error}"),
    told.HookFailed: (logging.ERROR, "{group}: {hook} of {topic}/{partition} failed, {verdict}: {error}\n{traceback}"),
    told.Suspected: (logging.ERROR, "{group}: {topic}/{partition}: {error}"),
    told.MetadataIgnored: (logging.WARNING, "{group}: {topic}/{partition}: {error}"),
    told.LaneUnnamed: (logging.ERROR, "{group}: {topic}/{partition}/{offset}: {error}"),
    told.NotRouted: (logging.ERROR, "{group}: {topic}/{partition}: {error}"),
    told.OutOfRange: (logging.ERROR, "{group}: {topic}/{partition}: {error}"),
    told.TopicMissing: (logging.WARNING, "{group}: topic {topic} does not exist yet; it is picked up when it appears"),
    told.DeadLetterMissing: (
        logging.WARNING,
        "{group}: the dead letter topic {topic} does not exist yet: unless the brokers make it, burials wait for it",
    ),
    told.TopicRenewed: (logging.ERROR, "{group}: {error}"),
    told.TopicFound: (logging.INFO, "{group}: topic {topic} is there"),
    told.Sought: (logging.INFO, "{group}: {topic}/{partition}: sought, from {left} to {offset}"),
    told.Received: (logging.DEBUG, "{group}: {topic}/{partition}/{offset} received {count}"),
    told.Performed: (
        logging.DEBUG,
        "{group}: {topic}/{partition} performed {count} in {elapsed:.3f} s, up to {position}",
    ),
    told.Stalled: (
        logging.WARNING,
        "{group}: {topic}/{partition} stands at {offset} for {waited:.0f} s: the oldest that is not finished",
    ),
    told.Aborted: (logging.INFO, "{group}: {topic}/{partition}/{offset} dropped by {controller}{reason}"),
    told.Unanswered: (
        logging.WARNING,
        "{group}: {topic}/{partition}/{offset} was performed by {controller} without an answer by {responder}",
    ),
    told.Discarded: (logging.WARNING, "{group}: {topic}/{partition}/{offset} discarded by {controller}{reason}"),
    told.Postponed: (
        logging.INFO,
        "{group}: {topic}/{partition}/{offset} postponed by {controller}, try {attempt}, {verdict}{reason}",
    ),
    told.StrategyFailed: (logging.ERROR, "{group}: the strategy for {topic}/{partition}/{offset} failed: {error}"),
    told.Failed: (
        logging.ERROR,
        (
            "{group}: {topic}/{partition}/{offset} failed in {controller}, try {attempt}, {verdict}: {kind}: {error}\n"
            "{traceback}"
        ),
    ),
    told.Retried: (logging.INFO, "{group}: {topic}/{partition}/{offset} given out again, try {attempt}"),
    told.Buried: (logging.WARNING, "{group}: {topic}/{partition}/{offset} went to {grave}"),
    told.BurialFailed: (
        logging.ERROR,
        "{group}: {topic}/{partition}/{offset} could not go to {grave}, tried again in {after:.1f} s: {error}",
    ),
    told.Committed: (logging.DEBUG, "{group}: committed {offsets}"),
    told.CommitFailed: (logging.WARNING, "{group}: {places}: {error}"),
    told.Paused: (logging.DEBUG, "{group}: {topic}/{partition} paused with {count} messages, {size} bytes in hand"),
    told.Resumed: (logging.DEBUG, "{group}: {topic}/{partition} resumed"),
    told.ClientTroubled: (logging.WARNING, "{error} ({code})"),
    told.ClientReplaced: (logging.ERROR, "{group}: {error}"),
    told.ClusterRefused: (logging.CRITICAL, "{error} ({code})"),
    told.ClientRecovered: (logging.INFO, "the cluster answers again after {waited:.1f} s"),
    told.Produced: (logging.DEBUG, "{topic}: a message with key {key} of {size} bytes is on its way"),
    told.Acknowledged: (logging.DEBUG, "{topic}/{partition}/{offset} confirmed after {latency:.3f} s"),
    told.DeliveryFailed: (logging.ERROR, "{error}"),
    told.QueueFull: (logging.WARNING, "{topic}: the producer's queue is full, {waiting} messages wait"),
    told.BufferFlushed: (logging.DEBUG, "{count} buffered messages of {size} bytes are on their way, {left} are left"),
    told.TransactionBegun: (logging.DEBUG, "{transactional_id}: a transaction has begun"),
    told.TransactionCommitted: (
        logging.DEBUG,
        "{transactional_id}: a transaction of {count} messages committed after {elapsed:.3f} s",
    ),
    told.TransactionAborted: (
        logging.WARNING,
        "{transactional_id}: a transaction of {count} messages aborted after {elapsed:.3f} s: {error}",
    ),
    told.ProducerTroubled: (logging.WARNING, "producer: {error} ({code})"),
    told.ProducerReplaced: (logging.ERROR, "producer: {error}: another takes its place"),
}
# Whose reason stands in the midst of a line.
REASONED = (
    *(told.ServerStopping, told.ServerQuiet, told.ProcessOutdated),
    *(told.SwarmQuiet, told.SwarmStopping, told.StatusHidden),
)


class LogListener:
    """Writes each event as a line to the logger "karafka"; its fields ride along as `record.karafka`. Any thread."""

    def __init__(self, events: Events) -> None:
        # Kinds that nobody would see are not listened to: on hot paths an event is only made when someone does.
        for kind, (level, _) in SAYINGS.items():
            if logger.isEnabledFor(level):
                events.on(kind, self)

    def __call__(self, event: Event) -> None:
        level, saying = next(SAYINGS[kind] for kind in type(event).__mro__ if kind in SAYINGS)
        if logger.isEnabledFor(level):
            fields = {name: getattr(event, name) for name in event.__struct_fields__}
            shown = {name: _shown(name, value) for name, value in fields.items()}
            if isinstance(event, REASONED):
                shown["reason"] = event.reason
            said = saying.format_map(shown)
            logger.log(level, "%s", said, extra={"karafka": {"event": event_name(event), **fields}})


def event_name(event: Event) -> str:
    """`BatchFailed` as `batch_failed`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()


def _shown(name: str, value: Any) -> Any:
    match name, value:
        case (("starts" | "positions" | "offsets"), dict()):
            return ", ".join(f"{topic}/{number}@{offset}" for (topic, number), offset in value.items()) or "nothing"
        case "groups", dict():
            return "; ".join(f"{group} reads {', '.join(topics)}" for group, topics in value.items())
        case "places", tuple():
            return ", ".join(f"{topic}/{number}" for topic, number in value)
        case "unfinished", tuple():
            return "" if not value else ", unfinished: " + ", ".join(value)
        case "at_work", str():
            return f", at work: {value}" if value else ""
        case "reason", str():
            return f": {value}" if value else ""
        case "traceback", str():
            return value.rstrip()
        case _:
            return value


class TextFormatter(logging.Formatter):
    """`12:31:05 INFO    videos: assigned …`, the level in colour where `colour` says so.

    Of a process that is one of several, its number comes first: `12:31:05 INFO    [2] videos: assigned …`.
    """

    COLOURS: Mapping[int, str] = {
        logging.DEBUG: "2",
        logging.WARNING: "33",
        logging.ERROR: "31",
        logging.CRITICAL: "1;31",
    }

    def __init__(self, *, colour: bool, process: int | None = None) -> None:
        number = "" if process is None else f"[{process}] "
        super().__init__(f"%(asctime)s %(levelname)-7s {number}%(message)s", "%H:%M:%S")
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        paint = self.COLOURS.get(record.levelno) if self._colour else None
        return f"\x1b[{paint}m{line}\x1b[0m" if paint else line


class JSONFormatter(logging.Formatter):
    """One JSON object a line: time (UTC, ISO 8601), level, logger, message, and the event's fields.

    Of a process that is one of several, `process` is its number.
    """

    def __init__(self, *, process: int | None = None) -> None:
        super().__init__()
        self._process = {} if process is None else {"process": process}

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line: dict[str, Any] = {"time": stamp, "level": record.levelname, "logger": record.name}
        line |= self._process
        line["message"] = record.getMessage()
        line |= {name: _plain(value) for name, value in getattr(record, "karafka", {}).items()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _plain(value: Any) -> Any:
    """As JSON can carry it: a partition as "topic/number", bytes as text."""
    match value:
        case dict():
            return {
                "/".join(map(str, key)) if isinstance(key, tuple) else key: _plain(one) for key, one in value.items()
            }
        case tuple():
            return [_plain(one) for one in value]
        case bytes():
            return value.decode(errors="replace")
        case _:
            return value


def configure_logging(level: str = "info", form: Format = "text", process: int | None = None) -> None:
    """What the commands do at start: one handler on stderr. Libraries and your own code are heard from WARNING on.

    `process`: its number, where this process is one of several.
    """
    handler = logging.StreamHandler(sys.stderr)
    text = TextFormatter(colour=sys.stderr.isatty(), process=process)
    handler.setFormatter(JSONFormatter(process=process) if form == "json" else text)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logger.setLevel(level.upper())
    # librdkafka says each retry of its own; what matters of it, also the worst, is told as events.
    logging.getLogger("karafka.librdkafka").setLevel(logging.DEBUG if level == "debug" else logging.CRITICAL + 1)
