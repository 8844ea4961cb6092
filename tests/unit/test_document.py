"""YAML to nodes: what is typed, where things stand, and what is refused, quickly and without ever raising."""

import re
import string
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from exhaust.documents.document import (
    At,
    Fault,
    Mapping,
    Node,
    Scalar,
    Sequence,
    child,
    compose,
    position_inside,
    read,
    read_tree,
)
from exhaust.documents.quoting import quoted

GOLDEN = Path(__file__).parent.parent / "golden" / "config"
KEYS = st.text(string.ascii_lowercase, min_size=1, max_size=6).map(lambda text: f"k{text}")
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["C", "Z"]) | st.just(" "))
WORDS = st.text(string.ascii_letters + "é😀", min_size=1, max_size=8).map(lambda text: f"x{text}")
SCALARS = st.one_of(WORDS, PRINTABLE.map(msgspec.json.encode).map(bytes.decode), PRINTABLE.map(lambda t: _single(t)))
FLOW = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(KEYS, inner, max_size=4).map(
            lambda entries: "{" + ", ".join(f"{key}: {value}" for key, value in entries.items()) + "}"
        ),
    ),
    max_leaves=12,
)


def _single(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def composed(text: str | bytes) -> Mapping:
    document, faults = compose(text.encode() if isinstance(text, str) else text, "t.yaml")
    assert faults == []
    assert document is not None
    return document


def refused(text: str | bytes) -> str:
    _, faults = compose(text.encode() if isinstance(text, str) else text, "t.yaml")
    return "\n".join(map(str, faults))


def scalar(text: str) -> Scalar:
    node = composed(f"a: {text}\n").get("a")
    assert isinstance(node, Scalar)
    return node


def scalars(node: Node) -> list[Scalar]:
    match node:
        case Mapping():
            return [leaf for entry in node.entries.values() for leaf in (entry.key, *scalars(entry.value))]
        case Sequence():
            return [leaf for item in node.items for leaf in scalars(item)]
        case Scalar():
            return [node]
        case _:
            return []


@pytest.mark.parametrize("text", ["on", "off", "yes", "no", "22:00", "0644", "1_000", "0x10", ".5", "5.", "~", "True"])
def test_what_other_readers_convert_is_text(text: str) -> None:
    assert scalar(text).value == text


@pytest.mark.parametrize("text", ["+5", ".inf", "2024-01-01", "1e", "-x", "٣", "=", "NULL", "127.0.0.0/8"])
def test_what_is_almost_a_number_is_text(text: str) -> None:
    assert scalar(text).value == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("false", False), ("null", None), ("", None), ("0", 0), ("-7", -7), ("1.5", 1.5), ("1e3", 1000.0)],
)
def test_what_json_types_is_typed(text: str, value: object) -> None:
    node = scalar(text)
    assert node.value == value
    assert type(node.value) is type(value)
    assert node.text == text


@pytest.mark.parametrize("text", ["'5'", '"true"', "'null'", "''", "|\n  5", ">-\n  5"])
def test_what_is_quoted_or_a_block_is_text(text: str) -> None:
    node = scalar(text)
    assert isinstance(node.value, str)
    assert node.quoted


def test_on_is_a_key_like_any_other() -> None:
    assert list(composed("on: a\nyes: b\n").entries) == ["on", "yes"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "\ufeff", "null\n"])
def test_a_file_without_content_is_an_empty_map(text: str) -> None:
    assert composed(text).entries == {}


def test_nodes_and_keys_know_their_line_and_column() -> None:
    document = composed("# c\r\na:\r\n  - é: b\r\n  - [😀, x]\r\n")
    assert document.entries["a"].key.at == At("t.yaml", 2, 1)
    assert [(leaf.text, leaf.at.line, leaf.at.column) for leaf in scalars(document)] == [
        ("a", 2, 1),
        ("é", 3, 5),
        ("b", 3, 8),
        ("😀", 4, 6),
        ("x", 4, 9),
    ]


@given(st.dictionaries(KEYS, FLOW, max_size=5))
def test_a_node_points_at_its_text(entries: dict[str, str]) -> None:
    lines = [f"{key}: {value}" for key, value in entries.items()]
    document = composed("\n".join(lines))
    for leaf in scalars(document):
        line = lines[leaf.at.line - 1]
        assert line.startswith(leaf.raw, leaf.at.column - 1)
        assert leaf.raw[:1] in ("'", '"') if leaf.quoted else leaf.raw == leaf.text


@given(PRINTABLE, st.sampled_from(["json", "single"]), st.data())
def test_a_place_inside_quotes_is_found_by_what_stands_there(text: str, style: str, data: st.DataObject) -> None:
    spelled = msgspec.json.encode(text).decode() if style == "json" else _single(text)
    node = scalar(spelled)
    offset = data.draw(st.integers(0, len(text)))
    line, column = position_inside(node, offset)
    inside = spelled[1 : column - len("a: ") - 1]
    again = msgspec.json.decode(f'"{inside}"') if style == "json" else inside.replace("''", "'")
    assert (line, again) == (1, text[:offset])


@pytest.mark.parametrize(
    ("text", "offset", "place"),
    [
        ("abc", 2, (1, 6)),
        (r'"\x41\u0042\n\U00000043d"', 4, (1, 27)),
        ("'it''s'", 3, (1, 9)),
        ("a\n  b", 2, (1, 4)),
        ("'a\n  b'", 2, (1, 4)),
        ("|\n  a", 0, (1, 4)),
    ],
)
def test_a_place_inside_a_value(text: str, offset: int, place: tuple[int, int]) -> None:
    assert position_inside(scalar(text), offset) == place


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise(text: bytes) -> None:
    compose(text, "t.yaml")


@given(st.text(st.sampled_from("ab \n\t:-?!&*#|>%@`'\"{}[],\\$=0.~<é\x00\u2028"), max_size=60))
@pytest.mark.parametrize("loader", [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)])
def test_no_text_makes_it_raise(loader: Any, text: str) -> None:
    document, faults = compose(text.encode(), "t.yaml", loader)
    assert document is not None or faults
    lines = text.splitlines()
    assert all(1 <= fault.line <= len(lines) + 1 for fault in faults)


@given(st.dictionaries(KEYS, FLOW, max_size=5))
def test_the_parser_in_python_gives_the_same_nodes(entries: dict[str, str]) -> None:
    text = "\n".join(f"{key}: {value}" for key, value in entries.items()).encode()
    assert compose(text, "t.yaml", yaml.SafeLoader) == compose(text, "t.yaml")


def test_the_parser_in_python_refuses_an_escape_beyond_unicode() -> None:
    document, faults = compose(b'a: "\\UFFFFFFFF"\n', "t.yaml", yaml.SafeLoader)
    assert document is None
    assert len(faults) == 1


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.expected")), ids=lambda file: file.stem)
def test_a_line_to_paste_cures_its_fault(file: Path) -> None:
    for said in re.findall(r"quote it: (.*?)(?: \(at .*\))?$", file.read_text(), re.MULTILINE):
        text = f"top:\n  {said}\n".encode()
        assert compose(text, "t.yaml")[1] == []


@given(PRINTABLE)
def test_quoting_keeps_the_text(text: str) -> None:
    assert scalar(quoted(text)).value == text


@pytest.mark.parametrize(
    "text",
    [
        "resets: record.pid   # a new pid begins a new series\n",
        "when: window.hosts >= 3 && window.share >= 0.4   # open now\n",
        "text: it's down   # a comment\n",
        "text: ${{ cause.name }} is down # a comment\n",
        'when: a in ["x", "y"] # a comment\n',
        "items: [a, b] # a comment\n",
    ],
)
def test_a_comment_behind_a_whole_value_is_a_comment(text: str) -> None:
    assert len(scalars(composed(text))) >= 2


def test_several_misread_values_of_a_line_are_mended_together() -> None:
    said = refused("a: {when: !up, until: !down(x, y:z), where: {b: !w}}\n")
    assert said.splitlines()[-1].endswith('a: {when: "!up", until: "!down(x, y:z)", where: {b: "!w"}} (at a.where.b)')
    assert len(said.splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: {b: !x(y),\n  c: d}\n", 'a: {b: "!x(y)",'),
        ("a: {\n  b: !x(y),\n  c: d}\n", 'b: "!x(y)",'),
        ("a: {\n  b: c,\n  d: e ? f : g}\n", 'd: "e ? f : g"}'),
        ("a: [\n  %x,\n  y]\n", '"%x",'),
    ],
)
def test_brackets_over_lines_are_mended_by_the_line(text: str, line: str) -> None:
    assert f"quote it: {line}" in refused(text)


def test_no_line_is_given_that_would_not_do() -> None:
    assert refused("a: b\n  && !c: d\n").endswith("if it is text, quote all of it")


def test_an_escape_of_other_languages_is_mended_with_single_quotes() -> None:
    assert "quote it: a: '^\\d+ \"x\"$' " in refused('a: "^\\d+ \\"x\\"$"\n')


def test_a_long_line_is_refused_without_being_repeated() -> None:
    assert refused(f"a: !{'x' * 1000}\n") == "t.yaml:1:4: tags are refused (at a)"


def test_a_file_that_is_all_faults_is_not_read_to_its_end() -> None:
    _, faults = compose(b"a: b\n" * 5000, "t.yaml")
    assert len(faults) == 1001
    assert "too many faults" in faults[-1].what


def test_twenty_levels_are_read_and_the_next_is_refused() -> None:
    composed("a: " + "[" * 19 + "]" * 19)
    assert "nested deeper than 20 levels" in refused("a: " + "[" * 20 + "]" * 20)


def test_a_mebibyte_is_read_and_more_is_refused() -> None:
    composed(b"#" * (1 << 20))
    assert refused(b"#" * ((1 << 20) + 1)) == "t.yaml:1:1: larger than 1 MiB"


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 100_000,
        "{a: " * 100_000,
        "- " * 100_000,
        "? " * 100_000,
        "a: [" + "*a, " * 200_000 + "]",
        "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "a:\n" + "- *a\n" * 200_000,
        "a: b\n" * 200_000,
        "a: " + "(" * 1_000_000 + " #\n",
    ],
    ids=["lists", "maps", "dashes", "keys", "aliases", "alias bomb", "alias lines", "duplicates", "brackets"],
)
def test_bombs_are_refused_at_once(text: str) -> None:
    begun = time.process_time()
    _, faults = compose(text.encode(), "t.yaml")
    assert faults
    assert time.process_time() - begun < 1


def test_many_flat_keys_are_fine() -> None:
    assert len(composed("".join(f"key{number}: x\n" for number in range(20_000))).entries) == 20_000


def test_a_fault_names_its_place_and_path() -> None:
    fault = Fault("a.yaml", 4, 12, "odd", "emitters[0].every")
    assert str(fault) == "a.yaml:4:12: odd (at emitters[0].every)"
    assert str(At("a.yaml", 1, 1).fault("odd")) == "a.yaml:1:1: odd"
    assert fault.severity == "error"


def test_a_path_quotes_keys_that_are_no_names() -> None:
    assert child(child(child("", "a"), 0), "b.c") == 'a[0]["b.c"]'
    assert child("", 'b"c') == '["b\\"c"]'


def test_a_directory_gives_its_files_by_name_and_only_those(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", ".hidden.yaml", "c.txt"):
        (tmp_path / name).write_text("host: a\n")
    (tmp_path / "d.yaml").mkdir()
    documents, faults = read_tree(f"{tmp_path}/")
    assert [document.at.file for document in documents] == [f"{tmp_path}/a.yml", f"{tmp_path}/b.yaml"]
    assert faults == []


def test_a_file_is_called_as_it_was_given(tmp_path: Path) -> None:
    file = tmp_path / "a.conf"
    file.write_text("host: !x\n")
    assert [fault.file for fault in read_tree(f"{tmp_path}/./a.conf")[1]] == [f"{tmp_path}/./a.conf"]
    assert read(file, "shown")[1][0].file == "shown"


def test_what_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere")
    assert [fault.what for fault in read_tree(tmp_path)[1]] == ["cannot be read: No such file or directory"]
    assert [fault.what for fault in read_tree(tmp_path / "none")[1]] == ["cannot be read: No such file or directory"]


def test_a_directory_without_yaml_is_a_fault(tmp_path: Path) -> None:
    assert read_tree(tmp_path)[1][0].what == "no *.yaml file in this directory"
