"""Where the broker is, as the operator says it, with its password in a file of its own if need be."""

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from exhaust.documents.nodes import Fault, Scalar
from exhaust.errors import ConfigurationError
from exhaust.plugins import Settings
from exhaust.settings import INVALID, Context, Invalid

_BROKER = re.compile(r"embedded|amqps?://[^\s/]\S*")
_USER = re.compile(r"//([^:@/]+)(:[^@/]*)?@")


class BrokerForm:
    """Binds where the broker is. What is wrong is not repeated: it may hold a password."""

    expected = "embedded, or a URL such as amqp://user@host:5672/vhost"
    takes = (Scalar,)

    def bind(self, node: Scalar, path: str, faults: list[Fault], _context: Context) -> str | Invalid:
        if _BROKER.fullmatch(node.text):
            return node.text
        faults.append(node.at.fault(f"expected {self.expected}", path))
        return INVALID


class BrokerUrl(Settings, frozen=True, kw_only=True):
    """A broker with its password in a file of its own, or whose exchanges and queues others declare."""

    url: Annotated[str, BrokerForm()]
    password_file: str | None = None
    topology: Literal["declare", "existing"] = "declare"

    def __post_init__(self) -> None:
        if self.password_file is not None and not _USER.search(self.url):
            raise ValueError("'password_file' needs a user in 'url', such as amqp://user@host")


def with_password(url: str, path: Path) -> str:
    """Return the URL with the password that the file holds. Raises ConfigurationError if it cannot be read."""
    try:
        password = quote(path.read_text().strip(), safe="")
    except (OSError, UnicodeDecodeError) as exc:
        what = getattr(exc, "strerror", None) or "it is no text"
        raise ConfigurationError([f"{path}: the broker's password cannot be read: {what}"]) from exc
    return _USER.sub(lambda found: f"//{found[1]}:{password}@", url, count=1)
