"""Does the disk's work for the event loop, which must not stand still where the disk does."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Then = Callable[[Any, BaseException | None], None]

_CLOSE_WITHIN = 2.0


class Scribe(Protocol):
    """Does one piece of work after another, in the order in which it was given."""

    def do(self, work: Callable[[], Any], then: Then) -> None:
        """Do it, and call `then` in the event loop with what it returned, or what it raised."""

    def close(self) -> None:
        """Finish what was given before and take no more; a disk that hangs is not waited for."""


class Thread:
    """A Scribe with a thread of its own, from the first piece of work on."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], Then] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def do(self, work: Callable[[], Any], then: Then) -> None:
        if self._closed:
            return
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, args=(loop,), name="spool", daemon=True)
            self._thread.start()
        self._work.put((work, then))

    def close(self) -> None:
        self._closed = True
        self._work.put(None)
        if self._thread is not None:
            self._thread.join(_CLOSE_WITHIN)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while (given := self._work.get()) is not None:
            work, then = given
            result = error = None
            try:
                result = work()
            except BaseException as exc:  # noqa: BLE001  handed on: who asked for the work decides
                error = exc
            with contextlib.suppress(RuntimeError):  # the event loop has ended meanwhile
                loop.call_soon_threadsafe(then, result, error)


async def ask(scribe: Scribe, work: Callable[[], T]) -> T:
    """Let a scribe do a piece of work, and return what it returned, or raise what it raised."""
    answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def then(result: Any, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)

    scribe.do(work, then)
    return await answer
