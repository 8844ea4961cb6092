"""The people of a configuration: who they are, where their tokens lie, and what they may."""

from pathlib import Path

import pytest

from exhaust.configuration import check, load
from exhaust.main import CATALOGUE


def written(folder: Path, text: str) -> Path:
    path = folder / "site.yaml"
    path.write_text(text)
    return path


def test_a_token_lies_beside_the_configuration_unless_told_otherwise(tmp_path: Path) -> None:
    text = (
        "people: [{name: ann, token_file: ann.token, may: [trigger, halt, approve]}, {name: bob, token_file: /x/bob}]"
    )
    ann, bob = load(written(tmp_path, text), CATALOGUE).people
    assert (ann.name, ann.token_file, ann.may) == ("ann", str(tmp_path / "ann.token"), ["trigger", "halt", "approve"])
    assert (bob.token_file, bob.may) == ("/x/bob", [])


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("{name: ann}", "token_file"),
        ("{token_file: x}", "name"),
        ("{name: local, token_file: x}", "choose another name"),
        ("{name: 'a b', token_file: x}", "name"),
        ("{name: ann, token_file: x, may: [everything]}", "everything"),
        ("{name: ann, token_file: x, mai: [halt]}", "did you mean 'may'?"),
        ("{name: ann, token_file: x}, {name: ann, token_file: y}", "'ann' is defined twice"),
    ],
)
def test_what_is_wrong_with_an_entry_is_told(tmp_path: Path, entry: str, fault: str) -> None:
    faults = check(written(tmp_path, f"people: [{entry}]"), CATALOGUE)[1]
    assert [one for one in faults if fault in one.what or fault in str(one)]
    assert all(one.severity == "error" for one in faults)


def test_a_token_that_is_not_there_is_no_fault_of_the_configuration(tmp_path: Path) -> None:
    configuration, faults = check(written(tmp_path, "people: [{name: ann, token_file: none}]"), CATALOGUE)
    assert configuration is not None
    assert faults == []
