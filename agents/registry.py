"""The actions that an agent's helper is built with."""

from collections.abc import Mapping
from typing import Any

from agents import command, process, service
from exhaust.plugins import Action

ACTIONS: Mapping[str, Action[Any]] = {
    action.name: action
    for action in (service.START, service.STOP, service.RESTART, service.RELOAD, process.SIGNAL, command.RUN)
}
