"""The documentation says what is so: links lead somewhere, commands are there, and what is to be copied works."""

import io
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from activator.rules import Guard, Rule
from exhaust.clock import SystemClock
from exhaust.commands.beginning import values, write
from exhaust.commands.command import Root
from exhaust.commands.line import COMMANDS, parser
from exhaust.commands.testing import run_tests
from exhaust.commands.trying import observe, settings_of
from exhaust.configuration import check
from exhaust.main import BUILT_IN, CATALOGUE, deciders, run

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in ROOT.glob("[a-z]*/") for page in folder.rglob("*.md"))])
NAMES = {command.name for command in COMMANDS}
FIRST_RULE = "docs/howto/first-rule.md"
OWN_EMITTER = "docs/howto/add-an-emitter.md"


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


def blocks(text: str, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for named, block in found if named == language]


def typed() -> Iterator[tuple[str, str]]:
    """Yield what a reader is told to type, with the page that tells it, without the remarks beside it."""
    for page in PAGES:
        for block in blocks(page.read_text(), ""):
            for line in re.findall(r"^(?:\$ )?(exhaust .*)$", block, re.MULTILINE):
                yield str(page.relative_to(ROOT)), re.split(r"\s{2,}", line)[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    relative = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in relative if not (page.parent / link.partition("#")[0]).exists()] == []


def test_what_is_to_be_typed_is_understood_by_the_command_line() -> None:
    lines = dict.fromkeys(line for _, line in typed())
    assert len(lines) > 20
    for line in lines:
        assert parser().parse_args(shlex.split(line)[1:]).command in NAMES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_are_spoken_of_are_there(page: Path) -> None:
    text = page.read_text()
    assert set(re.findall(r"`exhaust ([a-z][a-z-]*)", text)) <= NAMES
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets


def test_what_this_version_has_is_what_the_readme_tells() -> None:
    section = text_of("README.md").split("\nIn this version:\n")[1].split("\n## ")[0]
    there = {name for table in BUILT_IN.values() for name in table}
    guards = set(Guard.__struct_fields__) - {"window"}
    missing = {name for name in there | guards if f"`{name}`" not in section}
    assert not missing


def test_the_first_rule_of_the_how_to_is_sound_and_passes_its_own_test(tmp_path: Path) -> None:
    write(tmp_path, values(tmp_path, "here", tmp_path / "nothing", uid=1000))
    for block in blocks(text_of(FIRST_RULE), "yaml"):
        name = re.match(r"# ([\w/.]+)", block)
        assert name is not None, block
        path = tmp_path / name[1]
        path.parent.mkdir(exist_ok=True)
        path.write_text((path.read_text() if path.exists() else "") + block)
    _, faults = check(tmp_path, CATALOGUE)
    assert [fault for fault in faults if fault.severity == "error" or "disk.yaml" in fault.file] == []
    out = io.StringIO()
    run_tests([str(tmp_path / "tests" / "disk.yaml")], Root(CATALOGUE, run, deciders), as_json=False, out=out)
    assert out.getvalue() == "1 passed, 0 failed\n"


async def test_the_emitter_of_the_how_to_is_short_and_observes(tmp_path: Path) -> None:
    (source,) = blocks(text_of(OWN_EMITTER), "python")
    assert len(source.splitlines()) < 40
    defined: dict[str, Any] = {"__name__": "exhaust_files"}
    exec(compile(source, "exhaust_files.py", "exec"), defined)
    emitter, out = defined["EMITTER"], io.StringIO()
    settings = settings_of(emitter, ["every=100ms"])
    assert await observe(emitter, settings, SystemClock(), seconds=0.5, streams=emitter.streams, out=out)
    record = json.loads(out.getvalue().splitlines()[0])
    assert set(emitter.streams["open"]) == set(record) - {"stream", "time"}


def examples() -> list[Any]:
    """Return what docs/rules.md shows of each key: its title, its rules, its tests."""
    sections = re.split(r"^## ", text_of("docs/rules.md"), flags=re.MULTILINE)
    found = [(section.partition("\n")[0], *blocks(section, "yaml")) for section in sections[1:]]
    return [pytest.param(*shown, id=title) for title, *shown in found if shown]


@pytest.mark.parametrize(("rules", "tests"), examples())
def test_every_example_of_a_rule_does_what_is_said(tmp_path: Path, rules: str, tests: str) -> None:
    around = blocks(text_of("docs/rules.md"), "yaml")[0]
    (tmp_path / "exhaust.yaml").write_text(around + rules)
    (tmp_path / "tests.yaml").write_text(f"configuration: exhaust.yaml\n{tests}")
    out = io.StringIO()
    run_tests([str(tmp_path / "tests.yaml")], Root(CATALOGUE, run, deciders), as_json=False, out=out)
    assert re.fullmatch(r"\d+ passed, 0 failed\n", out.getvalue()), out.getvalue()


def test_every_key_of_a_rule_and_its_guard_is_shown() -> None:
    text = text_of("docs/rules.md")
    keys = {name.rstrip("_") for type_ in (Rule, Guard) for name in type_.__struct_fields__} - {"name", "guard"}
    assert not {key for key in keys if f"`{key}`" not in text and f" {key}" not in text}


def test_what_is_told_to_observe_a_host_by_is_sound_and_names_every_emitter(tmp_path: Path) -> None:
    (tmp_path / "observe.yaml").write_text("".join(blocks(text_of("docs/howto/observe.md"), "yaml")))
    configuration, faults = check(tmp_path, CATALOGUE)
    assert [fault for fault in faults if fault.severity == "error"] == []
    assert configuration is not None
    assert {emitter.name for emitter, _ in configuration.emitters} == set(BUILT_IN["emitters"])
