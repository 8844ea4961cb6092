"""The analyzers that are built in."""

from typing import Any

from analyzers.absence import ABSENCE
from analyzers.condition import CONDITION
from exhaust.plugins import Analyzer

ANALYZERS: dict[str, Analyzer[Any]] = {plugin.name: plugin for plugin in (ABSENCE, CONDITION)}
