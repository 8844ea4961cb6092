"""Facilities and severities: the names that `logger -p` has for them, and their numbers."""

from typing import NamedTuple

SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")

# 12 to 15 have no names there: these are what RFC 5424 says of them.
_LAST = ("ntp", "audit", "logalert", "clock")
_NAMED = ("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp")
FACILITIES = (*_NAMED, *_LAST, *(f"local{number}" for number in range(8)))


class Priority(NamedTuple):
    """What a message is about, and how bad it is."""

    facility: str
    severity: str
    facility_code: int
    severity_code: int


def priority(code: int) -> Priority:
    """Return what a number from 0 to 191 stands for."""
    facility, severity = divmod(code, 8)
    return Priority(FACILITIES[facility], SEVERITIES[severity], facility, severity)


PRIORITIES = {f"<{code}>": priority(code) for code in range(8 * len(FACILITIES))}
"""What may stand at the start of a message, complete."""
