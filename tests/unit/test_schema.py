"""The JSON Schema: what is sound passes, what editors can see to be wrong does not."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from exhaust.documents.document import read_tree
from exhaust.documents.nodes import plain
from exhaust.main import CATALOGUE
from exhaust.schema import schema

ROOT = Path(__file__).parents[2]
SCHEMA = schema(CATALOGUE)
VALIDATOR = Draft7Validator(SCHEMA)


def sound() -> Iterator[Path]:
    yield from sorted(path for path in (ROOT / "examples" / "quickstart").glob("*.yaml") if path.name != "policy.yaml")
    yield ROOT / "exhaust" / "start" / "rules.yaml"


def document(path: Path) -> Any:
    documents, faults = read_tree(path)
    assert faults == []
    return plain(documents[0])


def complaints(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "exhaust.yaml").write_text(text)
    return [error.json_path for error in VALIDATOR.iter_errors(document(tmp_path / "exhaust.yaml"))]


def test_it_is_a_schema_of_its_own_draft() -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@pytest.mark.parametrize("path", list(sound()), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_is_sound_passes(path: Path) -> None:
    assert [str(error) for error in VALIDATOR.iter_errors(document(path))] == []


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("emiters: []", "$"),
        ("http: {listen: everywhere}", "$.http.listen"),
        ("emitters: [{use: performance, every: often}]", "$.emitters[0]"),
        ("emitters: [{use: perfomance}]", "$.emitters[0]"),
        ("emitters: [{every: 1s}]", "$.emitters[0]"),
        ("analyzers: [{use: condition, fact: a, on: b.c, when: x, evry: 1s}]", "$.analyzers[0]"),
        ("rules: [{name: a, on: b, run: c, mode: yes}]", "$.rules[0].mode"),
        ("workflows: [{name: a, tasks: [{name: b, use: agent, timeout: 5}]}]", "$.workflows[0].tasks[0]"),
        ("hosts: [{labels: {a: b}}]", "$.hosts[0]"),
    ],
)
def test_what_is_wrong_is_found_where_it_stands(tmp_path: Path, text: str, where: str) -> None:
    assert complaints(tmp_path, text) == [where]


def test_every_plug_in_can_be_used_by_it() -> None:
    for kind in ("emitters", "analyzers", "adapters"):
        names = {one["properties"]["use"]["const"] for one in SCHEMA["properties"][kind]["items"]["anyOf"]}
        assert names == set(getattr(CATALOGUE, kind))
