"""What each process tells of itself over a unix socket: `/healthz`, `/readyz` and `/status`."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil
from aiohttp import web

from exhaust.clock import Clock
from exhaust.errors import ConfigurationError
from exhaust.lifecycle.service import Service, Watched

BEAT = 1.0
HUNG_AFTER = 5.0
_QUESTION = b"GET /healthz HTTP/1.0\r\nHost: local\r\n\r\n"
_SAMPLE_EVERY = 5
_SAMPLES = 3
# Linux keeps 108 bytes for the path of a unix socket, the last of them zero.
LONGEST_SOCKET = 107

Readiness = Callable[[], Mapping[str, bool]]


async def ask(path: Path, within: float) -> str | None:
    """Ask the process behind a socket how it is; return what is wrong, None where all is well."""
    try:
        async with asyncio.timeout(within):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(_QUESTION)
                answer = await reader.read()
            finally:
                writer.close()
    except TimeoutError:
        return "does not answer"
    except OSError as exc:
        return f"cannot be asked: {exc.strerror or exc}"
    head, _, body = answer.partition(b"\r\n\r\n")
    return None if head.split(b" ", 2)[1:2] == [b"200"] else f"is not well: {body.decode(errors='replace')[:200]}"


def check_socket(path: Path) -> None:
    """Raise ConfigurationError where nobody could listen at such a path."""
    if len(bytes(path)) > LONGEST_SOCKET:
        raise ConfigurationError([f"{path}: too long for a socket's path: choose a shorter 'state'"])


class Inspection:
    """Answers for the services of this process; itself a service that runs beside them.

    `ready` names what must be in order before work can flow, such as `broker`; `about` is told as it is, such as how
    often the supervisor has restarted this process; `stuck` names what hangs beyond the services, and why.
    """

    name = "inspection"

    def __init__(
        self,
        path: Path,
        services: Sequence[Service],
        clock: Clock,
        *,
        ready: Readiness = dict,
        about: Callable[[], Mapping[str, Any]] = dict,
        stuck: Callable[[], Mapping[str, str]] = dict,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._services = services
        self._clock = clock
        self._ready = ready
        self._about = about
        self._stuck = stuck
        self._monotonic = monotonic
        self._since = clock.now()
        self._beat = monotonic()
        self._slowest = 0.0
        self._samples: deque[tuple[float, dict[str, dict[str, int]]]] = deque(maxlen=_SAMPLES)
        self._process = psutil.Process()
        self.answering = asyncio.Event()

    def show(self, services: Sequence[Service]) -> None:
        """Answer for these from now on."""
        self._services = services
        self._samples.clear()

    async def run(self, until: asyncio.Event) -> None:
        """Serve until told. The socket belongs to this process alone: one that was left behind is replaced."""
        runner = web.AppRunner(self.app(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await self._listen(runner)
            self.answering.set()
            beat = asyncio.create_task(self._keep_beating(), name="beat")
            try:
                await until.wait()
            finally:
                beat.cancel()
        finally:
            await runner.cleanup()
            self._path.unlink(missing_ok=True)

    async def _listen(self, runner: web.AppRunner) -> None:
        check_socket(self._path)
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            await web.UnixSite(runner, self._path).start()
        except OSError as exc:
            raise ConfigurationError([f"{self._path}: cannot listen here: {exc}"]) from exc
        self._path.chmod(0o600)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1024)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/status", self._status)
        return app

    def status(self) -> dict[str, Any]:
        """Return what `/status` answers: of the process, and of each service by name."""
        checks = dict(self._ready())
        return {
            "state": "ready" if all(checks.values()) else "not_ready",
            "checks": checks,
            "since": self._since,
            "pid": self._process.pid,
            "rss": self._process.memory_info().rss,
            "slowest_beat": round(self._slowest, 3),
            **self._about(),
            "services": {
                service.name: {**service.status(), "rates": self._rates(service.name)} for service in self._services
            },
        }

    def beat(self) -> None:
        """Note that the event loop comes round."""
        now = self._monotonic()
        self._slowest = max(self._slowest, now - self._beat - BEAT)
        self._beat = now

    def sample(self) -> None:
        """Note what the services have counted so far, from which their rates are made."""
        counted = {service.name: dict(service.status().get("counts") or {}) for service in self._services}
        self._samples.append((self._monotonic(), counted))

    def _rates(self, name: str) -> dict[str, float]:
        if len(self._samples) < 2:
            return {}
        (start, before), (end, after) = self._samples[0], self._samples[-1]
        seconds = max(end - start, 0.001)
        old = before.get(name, {})
        return {key: round((count - old.get(key, 0)) / seconds, 1) for key, count in after.get(name, {}).items()}

    async def _keep_beating(self) -> None:
        beats = 0
        while True:
            self.beat()
            if beats % _SAMPLE_EVERY == 0:
                self.sample()
            beats += 1
            await asyncio.sleep(BEAT)

    def fault(self) -> str | None:
        """Return why this process makes no progress though it could; None while it does, or has nothing to do."""
        late = self._monotonic() - self._beat
        if late > HUNG_AFTER:
            return f"the event loop has not come round for {late:.0f} s"
        stuck = {one.name: why for one in self._services if isinstance(one, Watched) and (why := one.stuck())}
        return "; ".join(f"{name}: {why}" for name, why in {**stuck, **self._stuck()}.items()) or None

    async def _healthz(self, request: web.Request) -> web.Response:
        late, fault = self._monotonic() - self._beat, self.fault()
        return _answer({"beat": round(late, 3), "fault": fault}, well=fault is None)

    async def _readyz(self, request: web.Request) -> web.Response:
        checks = dict(self._ready())
        return _answer(checks, well=all(checks.values()))

    async def _status(self, request: web.Request) -> web.Response:
        return _answer(self.status(), well=True)


def _answer(content: Any, *, well: bool) -> web.Response:
    body = msgspec.json.encode(content)
    return web.Response(body=body, content_type="application/json", status=200 if well else 503)
