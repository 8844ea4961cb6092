"""The emitters that come with Exhaust."""

from typing import Any

from emitters import performance, service
from exhaust.plugins import Emitter

EMITTERS: dict[str, Emitter[Any]] = {
    "performance": performance.EMITTER,
    "service": service.EMITTER,
}
