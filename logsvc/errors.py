"""Every error that logsvc raises on purpose, in one tree.

    LogsvcError
    ├── ConfigError          settings, a Procfile or a data folder that can't be used as given
    ├── AccessError          who asks may not have it
    │   ├── BadToken         a token that is not valid, or no more
    │   ├── KeysAway         tokens can't be checked now
    │   └── OverLimit        more than the plan allows
    ├── ClientError          what the `paas` command tells its user before it ends
    │   ├── Refused          the service answers that it won't: trying again is no use
    │   └── Unavailable      the service can't be reached, or its answer broke off: trying again may help
    ├── FormatError          bytes that are not what they should be
    │   ├── BadCursor
    │   ├── BadFilter
    │   ├── BadKey           a record's key is not a stream
    │   ├── BadLine          a pushed line can't be read
    │   ├── BadTime          a time as people write it can't be read
    │   └── BadUrl           a drain's URL can't be used
    ├── BusError             the bus refuses or has lost what was asked of it
    │   ├── BusAway          the bus can't be reached now; trying again may help
    │   ├── OutOfRange       an offset outside of what the bus keeps
    │   ├── Sealed           an epoch of the bus that takes no more records
    │   ├── WrongTopic       a topic that was made anew, or has lost records: stop, never write
    │   ├── Fenced           another process appends under the same name now
    │   └── NewerFormat      a record written by a newer logsvc: stop, never skip
    ├── StoreError           the store refuses
    │   ├── TooCostly        a read takes longer, or reads more, than it may
    │   └── StoreAway        the store can't be reached now; trying again may help
    └── ClusterError         the API server of Kubernetes refuses
        ├── ClusterAway      it can't be reached now; trying again may help
        ├── MissingRight     whoever asks lacks a right, which the message names
        ├── Expired          it has forgotten the version that was asked for: list again
        └── NoLog            it has no log of that run of a container, or not yet

A message is one plain sentence for whoever has to act on it; it holds no line content and no secret.
"""


class LogsvcError(Exception):
    """Base of all errors that logsvc raises on purpose."""


class ConfigError(LogsvcError):
    """Settings, a Procfile or a data folder that can't be used as given."""


class AccessError(LogsvcError):
    """Whoever asks may not have it."""


class BadToken(AccessError):
    """A token that is not valid, or no more."""


class KeysAway(AccessError):
    """Tokens can't be checked now, because the keys can't be had; trying again may help."""


class OverLimit(AccessError):
    """More than the plan allows; it may be had again in `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ClientError(LogsvcError):
    """What the `paas` command tells its user before it ends."""


class Refused(ClientError):
    """The service answers that it won't: trying again is no use."""


class Unavailable(ClientError):
    """The service can't be reached, is busy, or its answer broke off: trying again may help.

    `answered` tells a service that is busy from one that isn't there; `retry_after` is what it asks for, in seconds.
    """

    def __init__(self, message: str, *, answered: bool = True, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.answered = answered
        self.retry_after = retry_after


class FormatError(LogsvcError):
    """Bytes or text that are not what they should be."""


class BadCursor(FormatError):
    """A cursor with bad syntax, of an unknown epoch, of another app's partition, or beyond the end."""


class BadFilter(FormatError):
    """A filter that can't be used; `parameter` names the part of the request that is wrong."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


class BadKey(FormatError):
    """A record's key is not the canonical JSON of a stream."""


class BadLine(FormatError):
    """A pushed line can't be read; `number` counts from 1."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"line {number}: {message}")
        self.number = number


class BadTime(FormatError):
    """A time as people write it can't be read."""


class BadUrl(FormatError):
    """A drain's URL can't be used; the message holds none of its secrets."""


class BusError(LogsvcError):
    """The bus refuses, or has lost, what was asked of it."""


class BusAway(BusError):
    """The bus can't be reached now; trying again may help."""


class OutOfRange(BusError):
    """An offset outside of what the bus keeps of `partition`; `start` and `end` bound what there is."""

    def __init__(self, partition: int, offset: int, start: int, end: int) -> None:
        super().__init__(f"offset {offset} of partition {partition} is outside of [{start}, {end}]")
        self.partition, self.start, self.end = partition, start, end


class Sealed(BusError):
    """An epoch of the bus that takes no more records: a newer one has taken its place, or is about to."""


class WrongTopic(BusError):
    """A topic that is not what it was: what is written there would be numbered twice, what is read is not ours."""


class Fenced(BusError):
    """Another process appends under the same name now."""


class NewerFormat(BusError):
    """A record written by a newer logsvc. Readers stop here: skipping it would lose lines silently."""


class StoreError(LogsvcError):
    """The store refuses a statement."""


class TooCostly(StoreError):
    """A read takes longer, or reads more, than it may."""


class StoreAway(StoreError):
    """The store can't be reached now; trying again may help."""


class ClusterError(LogsvcError):
    """The API server of Kubernetes refuses what was asked of it."""


class ClusterAway(ClusterError):
    """The API server can't be reached now; trying again may help."""


class MissingRight(ClusterError):
    """The service account lacks a right: the message names verb, resource and the rule that is missing."""


class Expired(ClusterError):
    """The API server has forgotten the version that was asked for: what there is now has to be listed."""


class NoLog(ClusterError):
    """The API server has no log of that run of a container, or not yet."""
