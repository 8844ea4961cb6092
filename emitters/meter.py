"""How much processor time each use of an emitter takes: measured at each step of its tasks and of those they start."""

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from time import perf_counter, thread_time
from types import TracebackType
from typing import Any, TypeVar

_LONG = 0.0002

T = TypeVar("T")


class Meter:
    """Seconds of a processor."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0

    def context(self) -> Context:
        """Return a context like the present one, in which all tasks are measured by this meter."""
        context = copy_context()
        context.run(_METER.set, self)
        return context


_METER: ContextVar[Meter | None] = ContextVar("meter", default=None)


class Metered(Coroutine[Any, Any, T]):
    """A coroutine as it is, but that each of its steps is measured.

    The clock that counts only our own time costs a system call, and is asked where the step before took long; of short
    steps, in which others hardly ever take the processor from us, the time that passed is good enough.
    """

    __slots__ = ("__name__", "__qualname__", "_inner", "_is_long", "_meter", "_send")

    def __init__(self, inner: Coroutine[Any, Any, T], meter: Meter) -> None:
        self._inner = inner
        self._send = inner.send
        self._meter = meter
        self._is_long = True
        self.__name__ = getattr(inner, "__name__", "metered")
        self.__qualname__ = getattr(inner, "__qualname__", "metered")

    def send(self, value: Any) -> Any:
        clock = thread_time if self._is_long else perf_counter
        began = clock()
        try:
            return self._send(value)
        finally:
            took = clock() - began
            self._meter.seconds += took
            self._is_long = took > _LONG

    def throw(self, kind: Any, value: Any = None, trace: TracebackType | None = None) -> Any:
        began = thread_time()
        try:
            return self._inner.throw(kind if value is None else value)
        finally:
            self._meter.seconds += thread_time() - began

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._inner.__await__()


@contextmanager
def metering() -> Generator[None]:
    """Measure the tasks that are started in the context of a meter; others are what they were."""
    loop = asyncio.get_running_loop()
    former = loop.get_task_factory()

    def factory(loop: asyncio.AbstractEventLoop, inner: Any, context: Context | None = None) -> asyncio.Future[Any]:
        meter = _METER.get() if context is None else context.get(_METER)
        made = Metered(inner, meter) if meter is not None else inner
        return former(loop, made) if former is not None else asyncio.Task(made, loop=loop, context=context)

    loop.set_task_factory(factory)
    try:
        yield
    finally:
        loop.set_task_factory(former)
