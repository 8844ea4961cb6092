"""Every error that somebody tells apart.

ExhaustError
├── ConfigurationError     the operator's files are wrong; carries every fault found
├── UsageError             the command line asks for something that cannot be
├── UnreachableError       a running system, or its broker, does not answer
├── StoreError             the durable state cannot be opened or written; its service stops
├── LockedError            another process leads: its store is locked; wait
├── BrokerError            a publication failed
│   ├── UnroutableError    no queue wants it: a fault of the topology, retried only after mending
│   └── UncertainError     no confirm in time: it may have arrived, send again with the same id
├── MessageError           a body that cannot be handled: dead-lettered with its reason
│   └── ForgeryError       its signature, signer or audience is wrong
└── AdapterError           an adapter could not do a task; it says whether trying again may help
"""

from collections.abc import Sequence
from typing import Any


class ExhaustError(Exception):
    """The root: its text is one line that says what to do."""


class ConfigurationError(ExhaustError):
    """Raised once all faults of a configuration are known; `faults` are ready to print, a line each."""

    def __init__(self, faults: Sequence[object]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


class UsageError(ExhaustError):
    """Wrong usage: exit code 2."""


class UnreachableError(ExhaustError):
    """Nobody answers: exit code 3."""


class StoreError(ExhaustError):
    """The store is unreadable, full or read-only."""


class LockedError(StoreError):
    """Another process holds the store."""


class BrokerError(ExhaustError):
    """The broker refused a publication or is not there."""


class UnroutableError(BrokerError):
    """No queue is bound for the publication's key, or one that is refuses it: others may pass meanwhile."""


class UncertainError(BrokerError):
    """No confirm before the deadline, or the connection was lost while one was awaited."""


class MessageError(ExhaustError):
    """A message that no retry can mend."""


class ForgeryError(MessageError):
    """A signed message that does not prove what it claims."""


class AdapterError(ExhaustError):
    """What an adapter was asked to do did not happen, or where `known` is false, nobody can know whether it did.

    `retry` says whether trying again may help; `output` is plain data that is kept with the task.
    """

    def __init__(self, text: str, *, retry: bool = False, known: bool = True, output: Any = None) -> None:
        super().__init__(text)
        self.retry = retry
        self.known = known
        self.output = output
