"""What the checker says of an expression by the shapes of what it reads, and what it keeps quiet about."""

import pytest

from exhaust.expressions import check_condition, compile_expression
from tests.unit.expressions.service_shapes import NAMES, SHAPES, said

RIGHT = [
    '(record.wanted ? record.tags : {"a": 1})[record.pid] == "x"',
    'default(record.more, {"a": 1}).b == 5 && default(record.tags, {})[0] == 5',
    'record.wanted && record.state != "running"',
    'record.cpu_percent > 90 && host.labels.role == "web"',
    "record.pid == 5.0",
    "record.cpu_percent == 5",
    "record.exit in [1, 2.5]",
    'record.state in ["failed", 5]',
    "record.state in lists.busy",
    "record.time > 5",
    'record.since - time < duration("1h")',
    "record.since > 1700000000",
    "record.exit != null && record.exit != 0",
    "record.pid % 2 == 0",
    "record.cpu_percent % 2 == 0",
    'record["pid"] == 5',
    'record[record.state] == "x"',
    "record.tags == []",
    'record.tags[0] == "x"',
    "record.more.depth.of.any == 5",
    '"pid" in record',
    "record.state in record",
    "(has(record.exit) ? record.exit : 0) == 0",
    'default(record.exit, "none") == "none"',
    'default(cause, "nobody") == "nobody"',
    'cause == null || cause.labels.service == "shop"',
    'cause.due - now < duration("1h") && cause.probability >= 0.8',
    'cause.value > 5 || cause.value == "x"',
    "double(record.state) > 5",
    'string(record.pid) == "5"',
    "int(record.state) + 1 == 6",
    "bool(host.labels.watched)",
    'timestamp(record.time).getHours("Europe/Amsterdam") > 8',
    "(now - cause.since).getMinutes() > 5",
    "size(record.tags) > 1 && record.state.size() > 1",
    "math.least(3, record.pid) + math.greatest([1, 2]) > 5",
    "in_cidrs(host.labels.address, lists.protected)",
    'host.labels["app-version"].startsWith("5")',
    '"app-version" in host.labels',
    "tasks.read.output.body.replicas + inputs.step > 5",
    'inputs.wait > duration("1m") && inputs.at < now && inputs.anything.at.all',
    'unheard.of == 5 && unheard.of == "5" && unheard && unheard > 5',
    '{"a": record.pid}.a == 5',
    '(record.wanted ? record : host).name == "x"',
    '(record.wanted ? record.pid : record.state) == "5"',
    "window.full && window.mean > 700",
    "record.pid in host.labels",
    "record.odd > 5 && record.odd == 'x' && record.odd.x.y[5]",
]
WRONG = [
    ("record.wantd", "8: record has no field 'wantd', did you mean 'wanted'?"),
    ("record.zzz == 5", "8: record has no field 'zzz'"),
    ('host.role == "web"', "6: host has no field 'role'; it has name, labels, known; a label is host.labels.role"),
    (
        'cause.service == "shop"',
        "7: cause has no field 'service', did you mean 'since'? (a label is cause.labels.service)",
    ),
    ("window.cout > 5", "8: window has no field 'cout', did you mean 'count'?"),
    ("lists.bussy == []", "7: lists has no field 'bussy', did you mean 'busy'?"),
    ('tasks.raed.state == "failed"', "7: tasks has no field 'raed', did you mean 'read'?"),
    ('tasks.read.stat == "failed"', "12: tasks.read has no field 'stat', did you mean 'state'?"),
    ("has(record.wantd)", "1: record has no field 'wantd', did you mean 'wanted'?"),
    ("default(record.wantd, true)", "16: record has no field 'wantd', did you mean 'wanted'?"),
    ('"wantd" in record', "1: record has no field 'wantd', did you mean 'wanted'?"),
    ("record.pid.x == 5", "12: record.pid is an int: it has no field 'x'"),
    ('record.labels.role == "web"', "8: record has no field 'labels'"),
    ("record.more == 5", "1: record.more is a map and 5 is an int: they are never equal"),
    ('{"a": 1}.b == 1', "10: {\"a\": 1} has no field 'b'; it has a"),
    ('record.pid == "5"', '1: record.pid is an int and "5" is a string: they are never equal; write record.pid == 5'),
    ('record.pid == "five"', '1: record.pid is an int and "five" is a string: they are never equal'),
    ('"5" == record.pid', '1: "5" is a string and record.pid is an int: they are never equal; write 5 == record.pid'),
    ('record.pid != "5"', '1: record.pid is an int and "5" is a string: they are never equal; write record.pid != 5'),
    (
        "record.state == 5",
        '1: record.state is a string and 5 is an int: they are never equal; write record.state == "5"',
    ),
    (
        "host.labels.env == 5",
        '1: host.labels.env is a string and 5 is an int: they are never equal; write host.labels.env == "5"',
    ),
    (
        'record.wanted == "true"',
        '1: record.wanted is a bool and "true" is a string: they are never equal; write record.wanted == true',
    ),
    ("record.cpu_percent == true", "1: record.cpu_percent is a number and true is a bool: they are never equal"),
    (
        'record.memory_bytes == "2GiB"',
        '1: record.memory_bytes is an int and "2GiB" is a string: they are never equal; '
        'write record.memory_bytes == quantity("2GiB")',
    ),
    (
        "record.pid == record.state",
        "1: record.pid is an int and record.state is a string: they are never equal; "
        "write record.pid == double(record.state)",
    ),
    (
        'record.since == "2024-01-01T00:00:00Z"',
        '1: record.since is a timestamp or a number and "2024-01-01T00:00:00Z" is a string: they are never equal; '
        'write timestamp(record.since) == timestamp("2024-01-01T00:00:00Z")',
    ),
    ("now == 5", "1: now is a timestamp and 5 is an int: they are never equal; write now == timestamp(5)"),
    (
        'inputs.wait == "5m"',
        '1: inputs.wait is a duration and "5m" is a string: they are never equal; write inputs.wait == duration("5m")',
    ),
    ("record.exit == null", "1: record.exit is never null: what is missing is unknown; write !has(record.exit)"),
    (
        'host.labels["a-b"] == null',
        '1: host.labels["a-b"] is never null: what is missing is unknown; write !("a-b" in host.labels)',
    ),
    ("record.more.x == null", "1: record.more.x is never null: what is missing is unknown; write !has(record.more.x)"),
    ("unheard.x == null", "1: unheard.x is never null: what is missing is unknown; write !has(unheard.x)"),
    ("record.tags[0] == null", "1: record.tags[0] is never null"),
    ('record.pid < "five"', "1: record.pid is an int and \"five\" is a string: '<' is not for them"),
    ("record.pid + 1 == null", "1: record.pid + 1 is never null"),
    ("null == now", "1: now is never null"),
    (
        'record.pid in ["5", "6"]',
        '1: record.pid is an int and ["5", "6"] holds a string: it is never in it; write record.pid in [5, 6]',
    ),
    (
        "record.state in [5]",
        '1: record.state is a string and [5] holds an int: it is never in it; write record.state in ["5"]',
    ),
    ('record.pid in ["five"]', '1: record.pid is an int and ["five"] holds a string: it is never in it'),
    (
        '"ning" in record.state',
        "1: record.state is a string: 'in' takes a list or a map; write record.state.contains(\"ning\")",
    ),
    ("record.wanted in host.labels", "1: record.wanted is a bool: the keys of host.labels are strings"),
    ("5 in record", "1: 5 is an int: the keys of record are strings"),
    ("5 in record.pid", "1: record.pid is an int: 'in' takes a list or a map"),
    (
        "host.labels.weight > 5",
        "1: host.labels.weight is a string and 5 is an int: '>' is not for them; write double(host.labels.weight) > 5",
    ),
    (
        'record.memory_bytes > "2GiB"',
        "1: record.memory_bytes is an int and \"2GiB\" is a string: '>' is not for them; "
        'write record.memory_bytes > quantity("2GiB")',
    ),
    (
        "now - cause.since > 60",
        "1: now - cause.since is a duration and 60 is an int: '>' is not for them; "
        'write now - cause.since > duration("60s")',
    ),
    (
        'now - cause.since > "1h"',
        "1: now - cause.since is a duration and \"1h\" is a string: '>' is not for them; "
        'write now - cause.since > duration("1h")',
    ),
    (
        'now > "2024-01-01T00:00:00Z"',
        "1: now is a timestamp and \"2024-01-01T00:00:00Z\" is a string: '>' is not for them; "
        'write now > timestamp("2024-01-01T00:00:00Z")',
    ),
    (
        "record.state < record.pid",
        "1: record.state is a string and record.pid is an int: '<' is not for them; "
        "write double(record.state) < record.pid",
    ),
    ("record.tags < record.tags", "1: record.tags is a list and record.tags is a list: '<' is not for them"),
    (
        "1 < record.pid < 5",
        "1: 1 < record.pid is a bool and 5 is an int: '<' is not for them; write 1 < record.pid && record.pid < 5",
    ),
    ("record.wanted > 5", "1: record.wanted is a bool and 5 is an int: '>' is not for them"),
    (
        'time - record.time > duration("1h")',
        "1: time is a timestamp and record.time is a number: '-' is not for them; write time - timestamp(record.time)",
    ),
    (
        "now - 3600 < cause.since",
        "1: now is a timestamp and 3600 is an int: '-' is not for them; write now - duration(\"3600s\")",
    ),
    (
        "now + 60 > cause.since",
        "1: now is a timestamp and 60 is an int: '+' is not for them; write now + duration(\"60s\")",
    ),
    (
        'record.pid + "x" == "5x"',
        '1: record.pid is an int and "x" is a string: \'+\' is not for them; write string(record.pid) + "x"',
    ),
    (
        "host.labels.weight + 1 > 5",
        "1: host.labels.weight is a string and 1 is an int: '+' is not for them; write double(host.labels.weight) + 1",
    ),
    (
        '"at " + now == "at noon"',
        '1: "at " is a string and now is a timestamp: \'+\' is not for them; write "at " + string(now)',
    ),
    (
        "record.state - 1 > 0",
        "1: record.state is a string and 1 is an int: '-' is not for them; write double(record.state) - 1",
    ),
    (
        "record.state * record.pid > 0",
        "1: record.state is a string and record.pid is an int: '*' is not for them; "
        "write double(record.state) * record.pid",
    ),
    (
        "1 + 2 - record.state > 0",
        "1: 1 + 2 is an int and record.state is a string: '-' is not for them; write 1 + 2 - double(record.state)",
    ),
    ("inputs.wait * 2 > inputs.wait", "1: inputs.wait is a duration and 2 is an int: '*' is not for them"),
    ("5.5 % record.pid == 0", "1: 5.5 is a double and record.pid is an int: '%' is not for them"),
    (
        "5.0 % record.pid == 0",
        "1: 5.0 is a double and record.pid is an int: '%' is not for them; write 5 % record.pid",
    ),
    (
        'record.tags + "x" == []',
        '1: record.tags is a list and "x" is a string: \'+\' is not for them; write record.tags + ["x"]',
    ),
    ("-record.state == 5", "1: record.state is a string: '-' takes a number"),
    ("record.pid && record.wanted", "1: record.pid is an int: '&&' takes true or false"),
    ("record.wanted || record.state", "18: record.state is a string: '||' takes true or false"),
    ("!record.pid", "2: record.pid is an int: '!' takes true or false"),
    (
        '!record.state == "running"',
        "2: record.state is a string: '!' takes true or false; write !(record.state == \"running\")",
    ),
    (
        "!record.state in lists.busy",
        "2: record.state is a string: '!' takes true or false; write !(record.state in lists.busy)",
    ),
    ("record.pid ? true : false", "1: record.pid is an int: '?:' takes true or false"),
    (
        'record.pid.contains("5")',
        '1: record.pid is an int: contains() takes a string; write string(record.pid).contains("5")',
    ),
    ("record.state.contains(5)", '23: 5 is an int: contains() takes a string; write record.state.contains("5")'),
    (
        '"x".matches(record.wanted)',
        '13: record.wanted is a bool: matches() takes a string; write "x".matches(string(record.wanted))',
    ),
    (
        "math.least(host.labels.weight, 5) > 1",
        "12: host.labels.weight is a string: math.least() takes a number or a list; "
        "write math.least(double(host.labels.weight), 5)",
    ),
    ("math.least(record.tags, 5) > 1", "1: record.tags is a list and 5 is an int: math.least() is not for them"),
    (
        'in_cidrs(host.labels.address, "10.0.0.0/8")',
        '31: "10.0.0.0/8" is a string: in_cidrs() takes a list; write in_cidrs(host.labels.address, ["10.0.0.0/8"])',
    ),
    (
        "record.time.getHours() > 5",
        "1: record.time is a number: getHours() takes a timestamp or a duration; "
        "write timestamp(record.time).getHours()",
    ),
    ("now.getHours(5) > 5", "14: 5 is an int: getHours() takes a string"),
    ("duration(60) < now - time", '10: 60 is an int: duration() takes a duration or a string; write duration("60s")'),
    (
        "duration(record.pid) < now - time",
        '10: record.pid is an int: duration() takes a duration or a string; write duration(string(record.pid) + "s")',
    ),
    ("int(record.wanted) == 1", "5: record.wanted is a bool: int() takes a timestamp, a number or a string"),
    (
        'string(record.tags) == ""',
        "8: record.tags is a list: string() takes a bool, a timestamp, a duration, a number or a string",
    ),
    ("bool(record.pid)", "6: record.pid is an int: bool() takes a bool or a string"),
    (
        "timestamp(record.wanted) == now",
        "11: record.wanted is a bool: timestamp() takes a timestamp, a number or a string",
    ),
    ("quantity(5) > 5", "10: 5 is an int: quantity() takes a string"),
    ("size(record.pid) > 1", "6: record.pid is an int: size() takes a string, a list or a map"),
    ("record[5] == 2", "1: 5 is an int: the keys of record are strings"),
    ('record.tags["x"] == 2', "12: record.tags is a list: it has no field 'x'"),
    ("record.pid[0] == 5", "1: record.pid is an int: it has no items"),
    ('host.labels[record.wanted] == ""', "1: host.labels is a map and record.wanted is a bool: '[]' is not for them"),
    ("{record.wanted: 5}.a == 5", "2: record.wanted is a bool: a map's key is a string or an int"),
]


@pytest.mark.parametrize("source", RIGHT)
def test_what_may_be_right_has_no_fault(source: str) -> None:
    assert check_condition(compile_expression(source, NAMES), SHAPES) == []


@pytest.mark.parametrize(("source", "fault"), WRONG)
def test_what_is_never_right_is_told(source: str, fault: str) -> None:
    assert said(source) == [fault]


@pytest.mark.parametrize("source", RIGHT)
def test_what_nothing_is_known_of_may_be_anything(source: str) -> None:
    assert check_condition(compile_expression(source, NAMES), {}) == []


@pytest.mark.parametrize("remedy", [fault.partition("; write ")[2] for _, fault in WRONG if "; write " in fault])
def test_what_it_says_to_write_is_right(remedy: str) -> None:
    assert compile_expression(remedy, NAMES).faults == ()
    assert said(remedy) == []
