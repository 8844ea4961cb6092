"""Services that a supervisord keeps: asked over its socket at every beat, and at once when a process of theirs ends.

STARTING, RUNNING and STOPPING are `running` while the kernel says that the process lives: how long a start must hold
before it counts is for a rule or a workflow to say. STOPPED, and EXITED with 0, are `stopped`; BACKOFF, FATAL, and
EXITED otherwise, `failed`. Where supervisord does not answer, or says UNKNOWN, or knows no such process, nothing is
guessed: one whose process is alive is `running`, one whose process was seen to end is `gone`, of any other no state is
claimed; and `reason` says why.

What a person stops by supervisorctl is wanted still: supervisord does not say who stopped it, and a restart that was
cut short looks the same. What `service.stop` has stopped is not.

One that supervisord starts again by itself is told as `gone` and then as `running` within milliseconds, or after its
pause (BACKOFF): a rule that restarts such a service should have a `for`, or supervisord `autorestart=false`.
"""

import asyncio
from collections.abc import Callable

from emitters.keepers.kept import Told
from emitters.keepers.watched import Watched
from exhaust import supervisord
from exhaust.processes import Process, find
from exhaust.supervisord import Info

_SETTLED = {supervisord.STOPPED: "stopped", supervisord.FATAL: "failed"}
_MEANINGS = {**_SETTLED, supervisord.BACKOFF: "failed", supervisord.EXITED: "failed"}
_LONGEST_REASON = 200


class Supervised(Watched):
    """A child of a supervisord. What was asked before its process was known says nothing against that process."""

    provider = "supervisord"

    def __init__(self, name: str, on_end: Callable[[Watched], None], *, wanted: bool) -> None:
        super().__init__(name, on_end, wanted=wanted)
        self._said: str | None = None
        self._taken = 0.0
        self.settled = False

    def learn(self, told: Told) -> None:
        """Take what the helper announces when it has started or stopped it."""
        self.want(wanted=told.wanted)
        if told.process is not None and told.process != self._process and self._is_newer(told.process):
            self._take(told.process)

    def hear(self, answer: Info | Exception, asked: float) -> None:
        """Take what supervisord said when it was asked at `asked` (the event loop's time), or why it said nothing."""
        self.settled = False
        if isinstance(answer, Exception):
            self._said, self._reason = None, str(answer)
        elif answer.pid:
            process = find(answer.pid)  # None: it has ended, which supervisord has yet to notice
            if process is not None and process != self._process and self._is_newer(process):
                self._take(process)
            self.settled = process is not None
            self._reason = ""
        elif self._pidfd is None or asked >= self._taken:
            self.close()  # supervisord has let go of it: it is this service no longer, even if it lives on
            self._take_end(answer)

    def _take_end(self, answer: Info) -> None:
        self.settled = answer.state in _SETTLED
        self._said, self._reason = _MEANINGS.get(answer.state), answer.spawnerr[:_LONGEST_REASON]
        if self._said is None:
            self._reason = f"supervisord says {answer.statename[:_LONGEST_REASON]}"
        told = answer.state == supervisord.EXITED or (answer.state == supervisord.STOPPED and answer.start)
        self._exit = answer.exitstatus if told and answer.exitstatus >= 0 else None
        if answer.state == supervisord.EXITED and self._exit == 0:
            self._said = "stopped"

    def _take(self, process: Process) -> None:
        self._taken = asyncio.get_running_loop().time()
        self._said, self._reason = None, ""
        super()._take(process)

    def _at_rest(self) -> str | None:
        known = self._said or ("gone" if self._process is not None else None)
        return "stopped" if known and not self._wanted else known
