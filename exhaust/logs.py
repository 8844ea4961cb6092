"""How services log: one line on standard error, constant text and fields, fit for a terminal and for journald."""

import logging
import sys
from datetime import UTC, datetime

from exhaust.text import clean

_MOST = 500
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Line(logging.Formatter):
    """`2026-01-02T03:04:05.678Z warning exhaust.outbox: text field=value …`"""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields = "".join(
            f" {name}={clean(str(value), _MOST)}" for name, value in vars(record).items() if name not in _OWN
        )
        line = f"{moment} {record.levelname.lower()} {record.name}: {clean(record.getMessage(), _MOST)}{fields}"
        if not record.exc_info:
            return line
        # What was raised may quote what came from outside: no line of it may pass for one of ours.
        story = self.formatException(record.exc_info).splitlines()
        return "\n".join([line, *(f"  {clean(told, _MOST)}" for told in story)])


def configure(level: int = logging.INFO) -> None:
    """Log to standard error. What libraries say of connections that come and go is the broker module's to tell."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Line())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for library in ("aio_pika", "aiormq"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
