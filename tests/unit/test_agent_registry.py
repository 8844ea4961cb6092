"""The table of actions: it holds what the files of this component define, and nothing else."""

import importlib
from pathlib import Path

import agents
from agents.registry import ACTIONS
from exhaust.plugins import Action


def test_the_table_holds_every_action_of_every_file() -> None:
    names = sorted(path.stem for folder in agents.__path__ for path in Path(folder).glob("*.py"))
    modules = [importlib.import_module(f"agents.{name}") for name in names if name != "__init__"]
    defined = {value.name for module in modules for value in vars(module).values() if isinstance(value, Action)}
    assert defined == set(ACTIONS)


def test_an_action_is_called_after_its_family() -> None:
    for name, action in ACTIONS.items():
        assert action.name == name
        assert action.act.__module__ == f"agents.{name.partition('.')[0]}"
