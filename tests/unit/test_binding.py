"""Settings from YAML: each way to be wrong has its golden message, and what is right gets its type and its place."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest

from exhaust.documents.binding import bind, bind_each
from exhaust.documents.document import Fault, Mapping, Scalar, compose, position_inside, read, read_tree
from exhaust.settings import INVALID, Context, Duration, Invalid, Size, parse_duration, parse_size

GOLDEN = Path(__file__).parent.parent / "golden" / "config"


class Words:
    """A form as an expression has it: what it refuses stands somewhere inside the text."""

    expected = "words"
    takes = (Scalar,)

    def bind(self, node: Scalar, path: str, faults: list[Fault], _context: Context) -> tuple[str, ...] | Invalid:
        offset = node.text.find("BAD")
        if offset < 0:
            return tuple(node.text.split())
        faults.append(Fault(node.at.file, *position_inside(node, offset), "'BAD' is no good word", path))
        return INVALID


Expression = Annotated[tuple[str, ...], Words()]


class Observer(msgspec.Struct, frozen=True, kw_only=True):
    use: str
    every: Annotated[Duration, msgspec.Meta(ge=0.01)] = 10.0


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    planned: ClassVar[frozenset[str]] = frozenset({"until"})

    name: Annotated[str, msgspec.Meta(pattern="^[a-z-]+$")]
    on: str | tuple[str, ...]
    when: Expression | list[Expression] | None = None
    mode: Literal["observe", "approve", "auto"] = "observe"
    for_: Duration = 0.0
    run: str | None = None
    with_: dict[str, Any] = {}
    labels: dict[str, str] = {}


class Http(msgspec.Struct, frozen=True, kw_only=True, rename={"largest_body": "largest"}):
    listen: str = ""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 443
    share: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.5
    tls: bool = False
    workers: int | Literal["auto"] = "auto"
    largest_body: Size = 1 << 20
    keep: Path = Path("/var")

    def __post_init__(self) -> None:
        if self.tls and self.port == 80:
            raise ValueError("'tls' needs another port than 80")


class Everything(msgspec.Struct, frozen=True, kw_only=True):
    host: str = ""
    emitters: list[Observer] = []
    rules: list[Rule] = []
    lists: dict[str, list[str]] = {}
    http: Http | None = None


def bound(text: str, type_: Any = Everything) -> tuple[Any, list[str], Context]:
    document, faults = compose(text.encode(), "t.yaml")
    context = Context()
    value = bind(document, type_, "", faults, context) if document else INVALID
    return value, [str(fault) for fault in faults], context


def told(text: str, type_: Any) -> list[str]:
    return bound(text, msgspec.defstruct("Only", [("a", type_)], kw_only=True))[1]


def value_of(text: str, type_: Any) -> Any:
    value, faults, _ = bound(text, msgspec.defstruct("Only", [("a", type_)], kw_only=True))
    assert faults == []
    return value.a


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.yaml")), ids=lambda file: file.stem)
def test_what_is_wrong_is_told_exactly(file: Path) -> None:
    document, faults = read(file, file.name)
    if document is not None:
        bind(document, Everything, "", faults, Context())
    assert "".join(f"{fault}\n" for fault in sorted(faults)) == file.with_suffix(".expected").read_text()


def test_every_golden_fault_has_its_file_and_every_file_its_fault() -> None:
    expected = {file.stem: file.read_text() for file in GOLDEN.glob("*.expected")}
    assert expected.keys() == {file.stem for file in GOLDEN.glob("*.yaml")}
    assert all(expected.values())


def test_twenty_faults_in_a_directory_are_all_told(tmp_path: Path) -> None:
    rules = "".join(f"  - {{name: a, on: {number}, mode: bold}}\n" for number in range(8))
    (tmp_path / "a.yaml").write_text(f"rules:\n{rules}")
    (tmp_path / "b.yml").write_text("host: 5\nhost: 6\nhttp: {port: many, tls: yes}\n")
    documents, faults = read_tree(tmp_path)
    for document in documents:
        bind(document, Everything, "", faults, Context())
    assert len(faults) == len(set(faults)) == 20


def test_what_is_left_out_takes_its_default() -> None:
    value, faults, _ = bound("rules:\n  - {name: a, on: b}\n")
    assert faults == []
    assert value.rules == [Rule(name="a", on="b")]
    assert value.host == ""


def test_keys_lose_a_trailing_underscore_or_take_their_given_name() -> None:
    value, faults, _ = bound("rules:\n  - {name: a, on: b, for: 5m, with: {x: 1}}\nhttp: {largest: 64MiB}\n")
    assert faults == []
    assert (value.rules[0].for_, value.rules[0].with_, value.http.largest_body) == (300.0, {"x": 1}, 64 << 20)


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        (str, "on", "on"),
        (str, "22:00", "22:00"),
        (str, "'22'", "22"),
        (int, "-5", -5),
        (float, "5", 5.0),
        (float, "1e3", 1000.0),
        (bool, "false", False),
        (Path, "/etc/x", Path("/etc/x")),
        (type(None), "", None),
        (Literal["a", 5], "5", 5),
        (int | str | None, "null", None),
        (int | str, "x", "x"),
        (int | str, "'5'", "5"),
        (int | list[int], "[5]", [5]),
        (tuple[float, ...], "[1, 2.5]", (1.0, 2.5)),
        (dict[str, int] | list[str], "{b: 1}", {"b": 1}),
        (dict[Literal["b", "c"], int], "{c: 1}", {"c": 1}),
        (Any, "{b: [1, 2.5, x, null, true]}", {"b": [1, 2.5, "x", None, True]}),
        (Observer | str, "{use: load}", Observer(use="load")),
        (Expression, "x y", ("x", "y")),
        (Annotated[str, msgspec.Meta(min_length=2, max_length=3)], "abc", "abc"),
        (list, "[a, 1]", ["a", 1]),
    ],
)
def test_each_type_takes_its_values(type_: Any, text: str, value: object) -> None:
    got = value_of(f"a: {text}", type_)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("type_", "text", "what"),
    [
        (int | str, "true", "expected a whole number or text, got true"),
        (int | list[int], "{b: 1}", "expected a whole number or a list, got a map"),
        (str | None, "5", 'expected text, got 5; write "5"'),
        (Literal["a", "b"] | None, "c", "expected a or b, got 'c'"),
        (Literal["a", True], "false", "expected a or true, got false"),
        (Duration | list[Duration], "1", "expected a duration such as 30s, got 1"),
        (Expression | int, "x BAD", "'BAD' is no good word"),
        (Expression, "[x]", "expected words, got a list"),
        (Annotated[str, msgspec.Meta(max_length=2)], "abc", "expected a length of at most 2, got 'abc'"),
        (Annotated[int, msgspec.Meta(gt=2)], "2", "expected more than 2, got 2"),
        (Annotated[float, msgspec.Meta(lt=2)], "2", "expected less than 2, got 2"),
        (str, "[" + "a" * 80 + "]", "expected text, got a list"),
        (int, "a" * 80, f"expected a whole number, got '{'a' * 57}...'"),
    ],
)
def test_each_type_says_what_it_expected(type_: Any, text: str, what: str) -> None:
    (fault,) = told(f"a: {text}", type_)
    assert what in fault


def test_a_union_of_maps_tells_the_faults_of_the_nearest() -> None:
    faults = told("a: {use: load, every: often}", Http | Observer)
    assert faults == ["t.yaml:1:23: expected a duration such as 30s, got 'often' (at a.every)"]


def test_what_was_refused_in_yaml_is_not_told_again() -> None:
    _, faults, _ = bound("host: *a\nlists:\n  safe: !x\nrules: [{name: a, on: &b c}]\n")
    assert [fault.split(":")[1] for fault in faults] == ["1", "3", "4"]
    assert all("quote it" in fault for fault in faults)


def test_a_map_of_unknown_keys_is_refused_at_once() -> None:
    _, faults, _ = bound("".join(f"hots{number}: x\n" for number in range(2000)))
    assert len(faults) == 1000 * 2
    assert "did you mean 'host'?" in faults[0]


def test_an_invalid_item_leaves_the_others_bound() -> None:
    document, faults = compose(b"rules:\n  - {name: a}\n  - {name: b, on: c}\n", "t.yaml")
    assert document is not None
    node = document.get("rules")
    assert node is not None
    first, second = bind_each(node, Rule, "rules", faults, Context())
    assert first.value is INVALID
    assert isinstance(first.node, Mapping)
    assert (second.path, second.value) == ("rules[1]", Rule(name="b", on="c"))


def test_items_of_what_is_no_list_are_one_fault() -> None:
    document, faults = compose(b"rules: {a: b}\nhosts: !x\n", "t.yaml")
    assert document is not None
    assert [list(bind_each(entry.value, Rule, key, faults, Context())) for key, entry in document.entries.items()] == [
        [],
        [],
    ]
    assert [fault.path for fault in faults] == ["hosts", "rules"]


def test_later_faults_find_the_place_of_a_path() -> None:
    _, _, context = bound('rules:\n  - name: a\n    on: b\n    run: c\n    with: {"x.y": [1]}\n')
    assert str(context.fault("rules[0].run", "no workflow 'c'")) == "t.yaml:4:10: no workflow 'c' (at rules[0].run)"
    assert context.where['rules[0].with["x.y"][0]'].column == 20


def test_a_path_that_is_left_out_is_told_at_what_holds_it() -> None:
    _, _, context = bound("rules:\n  - name: a\n    on: b\n")
    fault = context.fault('rules[0].with["x.y"][3].z', "odd", "warning")
    assert (fault.line, fault.column, fault.severity) == (2, 5, "warning")
    assert context.fault("http", "odd").line == 1
    assert Context().fault("http", "odd").line == 1


def test_a_type_that_no_setting_can_have_is_an_error_of_the_programmer() -> None:
    with pytest.raises(TypeError, match="no setting can have the type"):
        told("a: 5", bytes)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30.0), ("5m", 300.0), ("2h", 7200.0), ("7d", 604800.0), ("0s", 0.0)],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "s", "-5s", "1h30m", "1.5h", "5 s", "5S", "٣s", "9" * 40 + "d"])
def test_other_texts_are_no_durations(text: str) -> None:
    assert parse_duration(text) is None


@pytest.mark.parametrize(
    ("text", "size"),
    [("512B", 512), ("64MiB", 64 << 20), ("10GB", 10**10), ("1KiB", 1024), ("1KB", 1000), ("2TiB", 2 << 40)],
)
def test_sizes_are_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "64", "64M", "64iB", "1.5GB", "-1B", "1 GB", "1gib"])
def test_other_texts_are_no_sizes(text: str) -> None:
    assert parse_size(text) is None
