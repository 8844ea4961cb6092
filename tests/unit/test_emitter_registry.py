"""Every emitter that is a file is in the table, and what it documents is well formed."""

from pathlib import Path

import pytest

import emitters
from emitters.registry import EMITTERS

NO_EMITTERS = {"__init__", "lanes", "meter", "registry", "runner"}
TYPES = {"double", "int", "string", "bool", "timestamp", "list", "map"}


def test_folder_and_table_agree() -> None:
    files = {path.stem for path in Path(emitters.__path__[0]).glob("*.py")}
    assert files - NO_EMITTERS == set(EMITTERS)


@pytest.mark.parametrize("name", EMITTERS)
def test_an_emitter_has_defaults_and_documents_its_fields(name: str) -> None:
    emitter = EMITTERS[name]
    assert emitter.name == name
    emitter.settings()
    for fields in emitter.streams.values():
        assert "time" not in fields
        assert all(text.split(": ")[0] in TYPES for text in fields.values())
