"""Reaches a host through its agent: tasks become signed commands, so there is nothing to do here but to say so."""

from exhaust.plugins import Adapter, Settings


class Agent(Settings, frozen=True, kw_only=True):
    """There is nothing to set: which agent it is follows from the task's host."""


# The actions are those of the agents' own table: the composition root fills them in.
AGENT = Adapter("agent", Agent, actions={}, mutates=True)
