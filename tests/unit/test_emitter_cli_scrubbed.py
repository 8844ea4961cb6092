"""What is hidden of commands: what looks like a secret."""

import os
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emitters.commands.scrubber import Scrubber

EXAMPLES = int(os.environ.get("EXHAUST_EXAMPLES", "300"))
SCRUBBER = Scrubber()


@pytest.mark.parametrize(
    ("typed", "seen"),
    [
        ("mysqldump -u root --password=hush shop", "mysqldump -u root --password=*** shop"),
        ("tool --db-password 'two words' -v", "tool --db-password *** -v"),
        ("PGPASSWORD=hush psql -h db", "PGPASSWORD=*** psql -h db"),
        ("export AWS_SECRET_ACCESS_KEY=hush; aws s3 ls", "export AWS_SECRET_ACCESS_KEY=***; aws s3 ls"),
        ("curl -H 'Authorization: Bearer ab.c-d' http://x/", "curl -H 'Authorization: ***' http://x/"),
        ("curl -u ann:hush http://x/", "curl -u ann:*** http://x/"),
        ("git clone https://ann:hush@git.x/a.git", "git clone https://ann:***@git.x/a.git"),
        ("curl 'http://x/?api_key=hush&a=1'", "curl 'http://x/?api_key=***&a=1'"),
        ("mysql -uroot -phush shop", "mysql -uroot -p*** shop"),
        ("sshpass -p hush ssh x", "sshpass -p *** ssh x"),
        ("MYSQL_PWD=hush DB_PASS=hush x --pass hush", "MYSQL_PWD=*** DB_PASS=*** x --pass ***"),
        ("openssl rsa -passin pass:hush", "openssl rsa -passin pass:***"),
        ("vault login -token hush", "vault login -token ***"),
        ("mysql --password hush\\ secret\\ pass db", "mysql --password *** db"),
        ("DB_PASSWORD=a'hush c'd x", "DB_PASSWORD=*** x"),
        ("DB_PASSWORD=\"hush b\"c'd e' x; ls", "DB_PASSWORD=*** x; ls"),
        ("PASSWORD=$'a\\'hush c' x", "PASSWORD=*** x"),
        ("psql 'host=x password=hush' -c 'select 1'", "psql 'host=x password=***' -c 'select 1'"),
        ("git clone https://ghp_hush@github.com/a", "git clone https://***@github.com/a"),
        ("psql postgres://ann:p@hush@host/db", "psql postgres://ann:***@host/db"),
        ("docker login -u ann -p hush reg.x", "docker login -u ann -p *** reg.x"),
        ("redis-cli -h x -a hush ping", "redis-cli -h x -a *** ping"),
        ("ldapsearch -D cn=x -w hush -b dc=x", "ldapsearch -D cn=x -w *** -b dc=x"),
        ("smbclient -U ann%hush //x/y", "smbclient -U ann%*** //x/y"),
        ("aws configure set aws_secret_access_key hush", "aws configure set aws_secret_access_key ***"),
    ],
)
def test_what_looks_like_a_secret_is_not_seen(typed: str, seen: str) -> None:
    assert SCRUBBER.text(typed) == (seen, True)
    words, found = SCRUBBER.words(shlex.split(typed.replace("$'a\\'", "'")))
    assert found
    assert "hush" not in " ".join(words)


@pytest.mark.parametrize(
    "typed",
    [
        "ls -la /etc/passwd",
        "ssh -p 22 host",
        "passwd ann",
        "grep -u x",
        "cp a:b c",
        "date -u +%H:%M",
        "docker run -u 1000:1000 x",
        "make password",
        "PWD=/srv x --bypass y",
        "git clone ssh://git@host/a",
        "docker run -p 80:80 x",
    ],
)
def test_what_does_not_is_left_alone(typed: str) -> None:
    assert SCRUBBER.text(typed) == (typed, False)


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["mysql", "--password", "my secret pass", "end"], ["mysql", "--password", "***", "end"]),
        (["x", "--password=my secret pass", "end"], ["x", "--password=***", "end"]),
        (["env", "PASSWORD=abc;def", "x"], ["env", "PASSWORD=***", "x"]),
        (["x", "--token", ";'a b", "end"], ["x", "--token", "***", "end"]),
        (["mysql", "-e", "a;b", "-px y", "end"], ["mysql", "-e", "a;b", "-p***", "end"]),
        (["curl", "-H", "Authorization: Bearer abc", "x"], ["curl", "-H", "Authorization: ***", "x"]),
    ],
)
def test_a_secret_ends_where_its_argument_ends(words: list[str], seen: list[str]) -> None:
    assert SCRUBBER.words(words) == (seen, True)


PARTS = st.text(max_size=12) | st.sampled_from(["--password=", "TOKEN=x", "-u", "a:b", "é", "'", '"', "$'", "\\"])


@settings(max_examples=EXAMPLES, deadline=None, database=None)
@given(st.lists(PARTS, max_size=8))
def test_words_stay_words_and_what_is_not_found_stays_as_it_is(words: list[str]) -> None:
    scrubbed, found = SCRUBBER.words(words)
    assert len(scrubbed) == len(words)
    assert found or scrubbed == words
    text, found = SCRUBBER.text(" ".join(words))
    assert found == (text != " ".join(words)) or "***" in text


@settings(max_examples=EXAMPLES, deadline=None, database=None)
@given(st.text(alphabet="ab ;'\"\\$&|", max_size=12))
def test_a_secret_of_any_characters_is_hidden_whole_in_an_argument_and_in_quotes(secret: str) -> None:
    words, _ = SCRUBBER.words(["x", f"--password={secret}", "end"])
    assert words == ["x", "--password=***" if secret else "--password=", "end"]
    if secret:
        assert SCRUBBER.text(f"x --password={shlex.quote(secret)} end") == ("x --password=*** end", True)
