"""The helper: does on this host what a signed command and the host's own policy both allow, once per key."""

import asyncio
import contextlib
import inspect
import logging
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agents.channel import Reply, digest, encode, frame, peer_uid, read_frame
from agents.gate import Admitted, Gate, Refusal, untimely
from agents.journal import Answer, Journal, Started
from agents.output import fitting
from agents.params import ParamsError, parse
from agents.policy import frequency
from agents.program import Ended, run
from agents.registry import ACTIONS
from agents.roster import AnyService, Roster
from exhaust.errors import ForgeryError, MessageError
from exhaust.lifecycle.service import Station
from exhaust.messages import Command
from exhaust.plugins import Action, ActionError, Outcome, Services
from exhaust.store import Store

log = logging.getLogger(__name__)

_FINISH_WITHIN = 6.0
_LOOK_WITHIN = 10.0
_PRUNE_EVERY = 60.0


@dataclass(frozen=True, slots=True)
class Kit:
    """The tools of one act."""

    limits: Any
    services: Services

    async def run(self, argv: Sequence[str]) -> Ended:
        return await run(argv)


class Helper:
    """Listens on STATE/run/helper.commands, for its own user and `agent_uid` only, and keeps this host's services.

    It trusts nothing that the agent says: signature, addressee, time, HALT and policy are checked again here.
    """

    name = "helper"

    def __init__(
        self,
        station: Station,
        policy: Path | None,
        services: Sequence[AnyService] = (),
        *,
        actions: Mapping[str, Action[Any]] = ACTIONS,
        agent_uid: int | None = None,
    ) -> None:
        self._clock = station.clock
        self._state = station.state
        self._socket = station.sockets / "helper.commands"
        self._actions = actions
        self._agent_uid = agent_uid
        self._gate = Gate(station, policy, actions)
        listener = station.sockets / "service.news"
        self._services = Roster(services, station.state / "services", listener, station.clock.now)
        self._running: dict[str, asyncio.Task[Answer]] = {}
        self._requests: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._connections: dict[asyncio.StreamWriter, int] = {}
        self.counts: Counter[str] = Counter()

    async def run(self, until: asyncio.Event) -> None:
        """Take up the services, settle what a predecessor left open, and act until told; then finish what is begun."""
        self._socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with Store(self._state / "helper.db") as store:
            self._journal = Journal(store)
            await self._take_up()
            try:
                async with asyncio.TaskGroup() as self._tasks, self._listening():
                    pruning = self._tasks.create_task(self._prune(), name="prune")
                    await until.wait()
                    pruning.cancel()
                    await self._finish()
            finally:
                self._services.close()

    def status(self) -> dict[str, Any]:
        """Return what an operator wants to know of it."""
        peers = sorted(set(self._connections.values()))
        return {
            "counts": dict(self.counts),
            "running": len(self._running),
            "policy": self._gate.policy.status(),
            "services": self._services.status(),
            "peers": peers,
            "separation": "none" if os.getuid() in peers else "users" if peers else "unknown",
        }

    async def _take_up(self) -> None:
        boot = _boot()
        interrupted = list(self._journal.open())
        self._services.open(rebooted=self._journal.booted(boot))
        self._journal.remember_boot(boot)
        for entry in interrupted:
            await self._journal.finish(self._count(await self._settled(entry)))

    async def _settled(self, entry: Started) -> Answer:
        """Say what became of an effect that was begun and never finished. It is not begun again."""
        outcome: Outcome | None = None
        action = self._actions.get(entry.action)
        if action and action.probe and entry.looked:
            with contextlib.suppress(ParamsError, ActionError):
                kit = Kit(self._gate.policy.current().limits.get(entry.action), self._services)
                params = parse(entry.params, action.params)
                outcome = await _found(entry.action, partial(action.probe, params, entry.before, kit))
        if outcome is None:
            return Answer(entry.key, "indeterminate", "interrupted", entry.time)
        now = self._clock.now()
        return Answer(entry.key, "succeeded", "", entry.time, now, outcome.changed, fitting(outcome.output))

    @contextlib.asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        self._socket.unlink(missing_ok=True)  # ours alone: the store is locked
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            mask = os.umask(0o177)
            try:
                listener.bind(str(self._socket))
            finally:
                os.umask(mask)
            if self._agent_uid is not None and os.getuid() == 0:
                os.chown(self._socket, self._agent_uid, -1)
            server = await asyncio.start_unix_server(self._converse, sock=listener)
            try:
                yield
            finally:
                server.close()
                for writer in list(self._connections):
                    writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take requests of one connection until it ends, each answered when it is done."""
        uid = peer_uid(writer)
        if uid not in (os.getuid(), self._agent_uid):
            self.counts["stranger"] += 1
            log.warning("refused a connection", extra={"uid": uid})
            writer.close()
            return
        self._connections[writer] = uid
        try:
            while (envelope := await read_frame(reader)) is not None and not self._stopping:
                task = self._tasks.create_task(self._respond(envelope, writer), name="request")
                self._requests.add(task)
                task.add_done_callback(self._requests.discard)
        finally:
            self._connections.pop(writer, None)
            writer.close()

    async def _respond(self, envelope: bytes, writer: asyncio.StreamWriter) -> None:
        answer = await self._answer(envelope)
        if not writer.is_closing():
            writer.write(frame(encode(Reply(digest(envelope), answer))))

    async def _answer(self, envelope: bytes) -> Answer:
        try:
            command = self._gate.open(envelope)
        except MessageError as exc:
            reason = "forged" if isinstance(exc, ForgeryError) else "unusable"
            return self._count(Answer("", "refused", reason, output=str(exc)))
        if done := self._journal.answer(command.key):
            self.counts["repeated"] += 1
            return done
        running = self._running.get(command.key)
        if running is None:
            running = self._running[command.key] = self._tasks.create_task(self._do(command), name=command.action)
            running.add_done_callback(lambda _: self._running.pop(command.key, None))
        return await asyncio.shield(running)

    def _admit(self, command: Command) -> Admitted | Refusal:
        now = self._clock.now()
        admitted = untimely(command, now) or self._gate.admit(command)
        if isinstance(admitted, Admitted) and admitted.limits.rate:
            most, seconds = frequency(admitted.limits.rate)
            if self._journal.starts(command.action, now - seconds) >= most:
                return Refusal("policy", f"'rate': {admitted.limits.rate} is used up")
        return admitted

    async def _do(self, command: Command) -> Answer:
        """Admit, look, journal that the effect begins, which is on disk from then on, and begin it."""
        admitted = self._admit(command)
        before, looked = None, True
        if isinstance(admitted, Admitted) and admitted.action.look:
            try:
                kit = Kit(admitted.limits, self._services)
                before = await _found(command.action, partial(admitted.action.look, admitted.params, kit))
            except ActionError:
                looked = False  # the act will say the same, and be journalled for it
            admitted = self._admit(command)  # once more: while it looked others may have begun, or the policy changed
        if isinstance(admitted, Refusal):
            return self._count(Answer(command.key, "refused", admitted.reason, output={"detail": admitted.detail}))
        started = Started(command.key, command.action, command.params, self._clock.now(), before, looked)
        await self._journal.start(started)
        return await self._act(started, admitted, command.timeout)

    async def _act(self, started: Started, admitted: Admitted, timeout: float) -> Answer:  # noqa: ASYNC109  the command's
        kit = Kit(admitted.limits, self._services)
        outcome: Outcome | None = None
        state, reason, output = "succeeded", "", None
        try:
            async with asyncio.timeout(timeout):
                outcome = await admitted.action.act(admitted.params, kit)
        except ActionError as exc:
            state, reason, output = "failed", str(exc), exc.output
        except TimeoutError:
            state, reason = "failed", "timeout"
        except asyncio.CancelledError:
            self._journal.finish_now(self._ended(started, "indeterminate", "interrupted", None))
            raise
        except Exception:  # the one place: a fault of an action must cost one command, not the helper
            log.exception("action failed by a fault of its own", extra={"action": started.action, "key": started.key})
            state, reason = "indeterminate", "fault"
        answer = self._ended(started, state, reason, outcome or Outcome(changed=False, output=output))
        await self._journal.finish(answer)
        return answer

    def _ended(self, started: Started, state: Any, reason: str, outcome: Outcome | None) -> Answer:
        given = outcome or Outcome(changed=False)
        now = self._clock.now()
        answer = Answer(started.key, state, reason, started.time, now, given.changed, fitting(given.output))
        return self._count(answer)

    def _count(self, answer: Answer) -> Answer:
        self.counts[answer.reason if answer.state == "refused" else answer.state] += 1
        return answer

    async def _finish(self) -> None:
        """Wait for what is begun; what takes too long is cut off, and its result is that nobody knows."""
        self._stopping = True
        if self._requests:
            await asyncio.wait(list(self._requests), timeout=_FINISH_WITHIN)
        for task in list(self._running.values()):
            task.cancel()
        if self._requests:
            await asyncio.wait(list(self._requests))

    async def _prune(self) -> None:
        async for now in self._clock.every(_PRUNE_EVERY):
            while self._journal.prune(now):  # noqa: ASYNC110  others have their turn; nothing is waited for
                await asyncio.sleep(0)
            await asyncio.to_thread(self._services.trim)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


async def _found(action: str, look: Callable[[], Any]) -> Any:
    """Return what an action sees, waiting for it where it has to be asked for. Raises ActionError, whatever fails."""
    try:
        async with asyncio.timeout(_LOOK_WITHIN):
            found = look()
            return await found if inspect.isawaitable(found) else found
    except ActionError:
        raise
    except TimeoutError as exc:
        raise ActionError(f"'{action}' has seen nothing within {_LOOK_WITHIN:g} s") from exc
    except Exception as exc:  # as with what it does: its fault must cost one command, not the helper
        log.exception("action failed to look by a fault of its own", extra={"action": action})
        raise ActionError(f"'{action}' failed to look: {exc}") from exc
