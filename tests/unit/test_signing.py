"""Signatures: what was signed by whom it had to be opens, nothing else does; and the files that keys live in."""

import base64
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from exhaust.errors import ConfigurationError, ForgeryError, MessageError
from exhaust.messages import Codec, Command, Result, kind_of
from exhaust.signing import MOST_BYTES, Keys, Signer, Verifier, fingerprint, payload_type

OWN = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"x" * 32)
SIGNER = Signer(OWN)
VERIFIER = Verifier({"command/1": OWN.public_key(), "result/1": OTHER.public_key()})


def command(**fields: Any) -> Command:
    about: dict[str, Any] = {
        "id": "c", "time": 1.0, "execution": "x", "task": "t", "host": "h", "action": "service.restart", "params": {},
        "audience": "a", "epoch": 1, "seq": 1, "expires": 2.0, "key": "k", "timeout": 1.0,
    }  # fmt: skip
    return Command(**about | fields)


SEALED = SIGNER.seal(command())


def altered(**fields: Any) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode(SEALED), **fields})


def signed_as(media_type: str, payload: bytes, key: Ed25519PrivateKey = OWN) -> bytes:
    """Return an envelope whose signature is right for these bytes."""
    signature = key.sign(b"DSSEv1 %d %b %d %b" % (len(media_type), media_type.encode(), len(payload), payload))
    return msgspec.json.encode(
        {
            "payloadType": media_type,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [
                {"keyid": fingerprint(key.public_key()), "sig": base64.b64encode(signature).decode()},
            ],
        }
    )


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9), max_size=4))
def test_what_was_sealed_opens_as_it_was(params: dict[str, Any]) -> None:
    assert VERIFIER.open(SIGNER.seal(command(params=params))) == command(params=params)


def test_the_envelope_is_dsse() -> None:
    assert signed_as("application/vnd.exhaust.command.v1+json", Codec.encode(command())) == SEALED


def test_no_flipped_bit_of_an_envelope_goes_unnoticed() -> None:
    body = bytearray(SEALED)
    for position in range(len(body) * 8):
        body[position // 8] ^= 1 << position % 8
        with pytest.raises(MessageError):
            VERIFIER.open(bytes(body))
        body[position // 8] ^= 1 << position % 8
    assert VERIFIER.open(bytes(body)) == command()


def test_no_byte_can_be_left_out() -> None:
    for position in range(len(SEALED)):
        with pytest.raises(MessageError):
            VERIFIER.open(SEALED[:position] + SEALED[position + 1 :])


def test_another_s_signature_is_a_forgery() -> None:
    with pytest.raises(ForgeryError, match="another key"):
        VERIFIER.open(Signer(OTHER).seal(command()))


def test_another_s_signature_under_our_name_is_a_forgery() -> None:
    theirs = msgspec.json.decode(Signer(OTHER).seal(command()))["signatures"][0]["sig"]
    with pytest.raises(ForgeryError, match="signature"):
        VERIFIER.open(altered(signatures=[{"keyid": SIGNER.fingerprint, "sig": theirs}]))


def test_a_kind_is_signed_by_its_own_role_only() -> None:
    result = Result(id="r", time=1.0, command="c", key="k", execution="x", host="h", state="succeeded")
    with pytest.raises(ForgeryError, match="another key"):
        VERIFIER.open(SIGNER.seal(result))
    assert VERIFIER.open(Signer(OTHER).seal(result)) == result


def test_a_kind_that_nobody_may_sign_is_a_forgery() -> None:
    with pytest.raises(ForgeryError, match="nobody may sign"):
        VERIFIER.open(signed_as(payload_type("batch/1"), b"{}"))


def test_one_kind_does_not_pass_for_another() -> None:
    sealed = signed_as(payload_type("result/1"), Codec.encode(command()), OTHER)
    with pytest.raises(ForgeryError, match="was signed as"):
        VERIFIER.open(sealed)
    assert kind_of(command()) == "command/1"


def test_a_signature_for_another_type_does_not_count() -> None:
    with pytest.raises(ForgeryError):
        VERIFIER.open(altered(payloadType=payload_type("result/1")))


@pytest.mark.parametrize("times", [0, 2])
def test_there_is_exactly_one_signature(times: int) -> None:
    given = msgspec.json.decode(SEALED)["signatures"]
    with pytest.raises(MessageError):
        VERIFIER.open(altered(signatures=given * times))


@pytest.mark.parametrize(
    "fields",
    [
        {"payload": ""},
        {"payload": "!"},
        {"payload": None},
        {"payload": base64.urlsafe_b64encode(b"\xff\xff\xff").decode()},
        {"signatures": [{"keyid": SIGNER.fingerprint, "sig": ""}]},
        {"signatures": [{"keyid": SIGNER.fingerprint, "sig": "none"}]},
        {"signatures": [{"sig": "AAAA"}]},
        {"signatures": None},
        {"payloadType": None},
        {"payloadType": "\n" * 1000},
    ],
)
def test_an_envelope_that_lacks_something_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        VERIFIER.open(altered(**fields))


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_garbage_is_refused(body: bytes) -> None:
    with pytest.raises(MessageError):
        VERIFIER.open(body)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"[" * 60_000, b'{"payloadType":' + b'{"a":' * 9_000, b"\xff"])
def test_garbage_of_the_worse_sort_is_refused(body: bytes) -> None:
    with pytest.raises(MessageError):
        VERIFIER.open(body)


def test_an_envelope_that_is_too_large_is_not_even_read() -> None:
    with pytest.raises(MessageError, match="at most 65536"):
        VERIFIER.open(SEALED + b" " * (MOST_BYTES + 1 - len(SEALED)))


def test_signed_garbage_is_no_message() -> None:
    with pytest.raises(MessageError, match="no message of ours"):
        VERIFIER.open(signed_as(payload_type("command/1"), b"\xff"))


# Key files


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys")


def test_a_pair_is_made_once_and_its_owner_alone_can_read_it(keys: Keys, tmp_path: Path) -> None:
    made = keys.signer("agent")
    files = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()}
    assert files == {"agent.key": 0o600, "agent.pub": 0o600}
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert keys.signer("agent").fingerprint == made.fingerprint == fingerprint(keys.public("agent"))


def test_asking_for_the_public_key_makes_the_pair(keys: Keys) -> None:
    assert fingerprint(keys.public("agent")) == keys.signer("agent").fingerprint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o666])
def test_a_key_that_others_may_touch_is_refused(keys: Keys, tmp_path: Path, mode: int) -> None:
    keys.signer("agent")
    (tmp_path / "keys" / "agent.key").chmod(mode)
    with pytest.raises(ConfigurationError, match="others may read this key: chmod 600"):
        keys.signer("agent")


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_key_that_is_none_is_refused(keys: Keys, tmp_path: Path, content: bytes) -> None:
    keys.signer("agent")
    (tmp_path / "keys" / "agent.key").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"agent\.key: is no key"):
        keys.signer("agent")


@pytest.mark.parametrize("content", ["", "zz", "00", "0" * 66, "é"])
def test_a_public_key_that_is_none_is_refused(keys: Keys, tmp_path: Path, content: str) -> None:
    keys.signer("agent")
    (tmp_path / "keys" / "agent.pub").write_text(content)
    with pytest.raises(ConfigurationError, match=r"agent\.pub: is no key"):
        keys.public("agent")


def test_a_new_key_beside_an_old_public_one_is_refused(keys: Keys, tmp_path: Path) -> None:
    keys.signer("agent")
    (tmp_path / "keys" / "agent.key").unlink()
    with pytest.raises(ConfigurationError, match=r"agent\.pub: is not of the key beside it"):
        keys.signer("agent")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a file")
    with pytest.raises(ConfigurationError, match="cannot be read or made"):
        Keys(tmp_path / "keys").signer("agent")


def test_of_many_who_make_a_key_at_once_all_get_the_same(tmp_path: Path) -> None:
    for round_ in range(10):
        folder, found, ready = tmp_path / str(round_), list[str](), threading.Barrier(8)

        def make(folder: Path = folder, found: list[str] = found, ready: threading.Barrier = ready) -> None:
            ready.wait()
            found.append(Keys(folder).signer("agent").fingerprint)

        threads = [threading.Thread(target=make) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert len(set(found)) == 1
        assert {path.name for path in folder.iterdir()} == {"agent.key", "agent.pub"}
