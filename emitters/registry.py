"""The emitters that come with Exhaust."""

from typing import Any

from emitters import accounting, benchmark, cli, file, network, performance, self, service, syslog
from exhaust.plugins import Emitter

EMITTERS: dict[str, Emitter[Any]] = {
    "accounting": accounting.EMITTER,
    "benchmark": benchmark.EMITTER,
    "cli": cli.EMITTER,
    "file": file.EMITTER,
    "network": network.EMITTER,
    "performance": performance.EMITTER,
    "self": self.EMITTER,
    "service": service.EMITTER,
    "syslog": syslog.EMITTER,
}
