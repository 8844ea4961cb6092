"""The adapters that are built in."""

from typing import Any

from adapters.agent import AGENT
from adapters.ansible import ANSIBLE
from adapters.notify import NOTIFY
from exhaust.plugins import Adapter

ADAPTERS: dict[str, Adapter[Any]] = {plugin.name: plugin for plugin in (AGENT, ANSIBLE, NOTIFY)}
