"""How often may be looked for files: what takes long is done so seldom that others get on in between."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SHARE: Final = 10  # times what the last look took is waited for until the next
_LONGEST: Final = 60.0  # seconds to wait even after one that was held up by a file system


class Pace:
    """Kept by whoever looks. Times are the event loop's."""

    def __init__(self) -> None:
        self.due = 0.0

    @property
    def free(self) -> bool:
        """Whether it is time."""
        return asyncio.get_running_loop().time() >= self.due

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Measure a look."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            yield
        finally:
            ended = loop.time()
            self.due = ended + min(_SHARE * (ended - began), _LONGEST)
